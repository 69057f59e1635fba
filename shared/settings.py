"""Settings: parsed once into a frozen struct; an unknown key or a bad value refuses to start and names the key.

Order of strength: the struct's defaults, then the file (YAML), then the environment, then what the caller overrides
(command-line options; `None` means "not given"). In the environment a nested key is joined with two underscores:
prefix `SKERRY_HUB_` and key `nats.port` give `SKERRY_HUB_NATS__PORT`. A variable below the prefix that names no setting
refuses to start too, because it is a mistake that would else go unseen.
"""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shared import limits, strict_yaml
from shared.errors import InvalidInput

__all__ = ["load_settings", "setting_names"]

T = TypeVar("T")
_MESSAGE_PATH = " - at `$."


def load_settings(
    kind: type[T],
    path: Path | None,
    env_prefix: str,
    overrides: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
) -> T:
    """Settings of type `kind` (a frozen msgspec struct) from file, environment and overrides.

    Errors: `settings.unknown_key`, `settings.bad_value`, `settings.missing`, `yaml.missing`, `yaml.malformed`.
    """
    merged: dict[str, Any] = {}
    if path is not None:
        document = strict_yaml.load_file(path, limit=limits.MAX_SETTINGS_BYTES)
        if document is not None and not isinstance(document, dict):
            raise InvalidInput("settings.bad_value", f"{path.name} is not a list of `key: value` lines.")
        merged = _checked(kind, document or {}, path.name)
    merged = _merge(merged, _from_environment(kind, env_prefix, os.environ if environ is None else environ))
    merged = _merge(merged, _checked(kind, _without_none(overrides), "the command line"))
    try:
        return msgspec.convert(merged, kind, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), path.name if path else "the settings") from error


def setting_names(kind: type) -> list[str]:
    """All keys of a settings struct, dotted, in the order of their definition."""
    return [name for name, _annotation in _leaves(kind, "")]


def _decode_path(kind: type, value: Any) -> Any:
    """The hook for `Path`, the one type that settings use and msgspec does not know."""
    if kind is Path:
        if isinstance(value, (str, Path)):
            return Path(value)
        raise ValueError(f"Expected a path, got `{type(value).__name__}`")
    raise NotImplementedError(f"settings cannot hold {kind!r}")


def _refusal(message: str, source: str) -> InvalidInput:
    text, _, where = message.partition(_MESSAGE_PATH)
    key = where.rstrip("`")
    if text.startswith("Object missing required field"):
        name = ".".join(part for part in (key, text.split("`")[1]) if part)
        return InvalidInput(
            "settings.missing", f"The setting {name} is missing in {source}.", detail={"key": name, "source": source}
        )
    return InvalidInput(
        "settings.bad_value",
        f"The setting {key or '(whole file)'} in {source} is not valid: {text}.",
        hint="Correct the value; units are in the names.",
        detail={"key": key, "source": source},
    )


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types that an annotation stands for, without `Annotated` and unions."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _alternatives(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    for part in _alternatives(annotation):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return None


def _leaves(kind: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, annotation in _fields(kind).items():
        nested = _struct_in(annotation)
        if nested is None:
            yield prefix + name, annotation
        else:
            yield from _leaves(nested, f"{prefix}{name}.")


def _unknown(key: str, source: str, known: list[str]) -> InvalidInput:
    near = difflib.get_close_matches(key, known, n=1)
    return InvalidInput(
        "settings.unknown_key",
        f"{source} has the setting {key}, which does not exist.",
        hint=f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}."[:400],
        detail={"key": key, "source": source},
    )


def _checked(kind: type, values: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """The values as a new dict after every key, also nested, was found in `kind`."""
    fields = _fields(kind)
    out: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown(prefix + str(key), source, [prefix + name for name in fields])
        nested = _struct_in(fields[key])
        deeper = nested is not None and isinstance(value, Mapping)
        out[key] = _checked(nested, value, source, f"{prefix}{key}.") if nested is not None and deeper else value
    return out


def _from_environment(kind: type, prefix: str, environ: Mapping[str, str]) -> dict[str, Any]:
    known = {prefix + name.replace(".", "__").upper(): (name, hint) for name, hint in _leaves(kind, "")}
    out: dict[str, Any] = {}
    for variable in sorted(name for name in environ if name.startswith(prefix)):
        if variable not in known:
            raise _unknown(variable, "The environment", sorted(known))
        name, annotation = known[variable]
        value = _from_text(environ[variable], annotation, variable)
        for part in reversed(name.split(".")):
            value = {part: value}
        out = _merge(out, value)
    return out


def _from_text(text: str, annotation: Any, variable: str) -> Any:
    """The value of a variable: text where text is expected, else what YAML says."""
    if any(part in (str, Path) for part in _alternatives(annotation)):
        return text
    value = strict_yaml.load(text.encode(), what=variable)
    try:
        msgspec.convert(value, annotation, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise _refusal(f"{error}{_MESSAGE_PATH}{variable}`", "the environment") from error
    return value


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        out[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return out
