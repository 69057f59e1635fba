"""YAML as people write settings: one document, plain values, nothing surprising.

Bounded first. Refused: duplicate keys (the last one would win in silence), tags, anchors and aliases (a few bytes can
stand for gigabytes), keys that are not text, more than one document, and words that YAML 1.1 turns into something else
than what stands there (`no`, `on`, `12:30`, dates): only `true`, `false`, `null` and numbers are more than text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from shared import durable
from shared.errors import InvalidInput, NotFound

__all__ = ["load", "load_file"]


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what the module docstring lists."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - an empty table of its own instead of YAML 1.1's

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As the parent's, but without aliases, anchors and explicit tags."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not accepted", problem_mark=event.start_mark)
        if getattr(event, "tag", None) not in (None, "!"):
            raise yaml.MarkedYAMLError(problem="tags are not accepted", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the parent's, but every key is text and stands there once."""
        seen: set[str] = set()
        for key, _value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key is not text", problem_mark=key.start_mark)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} is there twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)\Z", "tf"),
    ("null", r"^(?:null|~|)\Z", ["n", "~", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)\Z", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def load(data: bytes, *, what: str) -> Any:
    """Plain values from one YAML document; error `yaml.malformed` names line and column."""
    try:
        return yaml.load(data.decode("utf-8"), _Loader)  # noqa: S506 - a safe loader, made stricter
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise InvalidInput("yaml.malformed", f"{what} cannot be read{where}: {problem}."[:300]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput("yaml.malformed", f"{what} cannot be read: {error}."[:300]) from error


def load_file(path: Path, *, limit: int) -> Any:
    """Plain values from a YAML file of at most `limit` bytes; errors `yaml.missing`, `yaml.malformed`, `storage.*`."""
    try:
        data = durable.read_file(path, limit=limit)
    except NotFound as error:
        raise NotFound("yaml.missing", f"{path} does not exist.", hint="Check the path.") from error
    return load(data, what=path.name)
