"""Documents of policies: bounded, read strictly, typed, and every complaint names its field. Pure.

Errors: `policy.invalid` with the field in `detail`, `policy.too_large`, `yaml.malformed`, `json.malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from hub.rollouts import amounts
from hub.rollouts.amounts import Amount
from shared import canonical, limits, strict_yaml
from shared.errors import InvalidInput, TooLarge
from shared.field_errors import describe, joined

__all__ = ["Amount", "byte_count", "document", "invalid", "recoded", "seconds", "struct"]

T = TypeVar("T")
_BYTES = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB|TiB)\Z")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MAX_BYTES = 1 << 50


def invalid(field: str, problem: str, hint: str = "") -> InvalidInput:
    """The error for a field of a policy."""
    text = f"{field}: {problem.rstrip('.')}."[:400]
    return InvalidInput("policy.invalid", text, hint=hint, detail={"field": field})


def document(data: bytes) -> Any:
    """Plain values from the bytes of a YAML or JSON document."""
    if len(data) > limits.MAX_POLICIES_BYTES:
        raise TooLarge("policy.too_large", f"The document has more than {limits.MAX_POLICIES_BYTES} bytes.")
    if data.lstrip().startswith(b"{"):
        return canonical.loads(data, limit=limits.MAX_POLICIES_BYTES, what="policy")
    return strict_yaml.load(data, what="The policy")


def struct(
    values: Any, kind: type[T], specs: Sequence[type[msgspec.Struct]], words: Mapping[str, Iterable[str]], at: str = ""
) -> T:
    """A struct from plain values. specs: all structs in it; words: the values of its fields; at: where it stands."""
    if not isinstance(values, dict):
        raise invalid(at or "policy", "it is not a mapping with fields")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        known = (name for spec in specs for name in spec.__struct_fields__)
        found = describe(str(error), known, words, reference="docs/retraining.md lists the fields.")
        raise invalid(joined(at, found.field) if found.field else at or "policy", found.problem, found.hint) from error


def seconds(value: Amount, field: str, low: int, high: int) -> int:
    """A duration: seconds, or `90s`, `15m`, `24h`, `7d`."""
    return recoded("", lambda: amounts.seconds(value, field, low, high))


def byte_count(value: Amount, field: str) -> int:
    """Bytes: a whole number, or `500 KiB`, `50 MiB`, `2 GiB`."""
    found = _BYTES.match(value.strip()) if isinstance(value, str) else None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif found:
        number = int(found[1]) * _UNITS[found[2]]
    else:
        raise invalid(field, f"{value!r:.40} is not a number of bytes", "Write bytes, or for example 50 MiB.")
    if not 1 <= number <= _MAX_BYTES:
        raise invalid(field, f"{number} bytes are not between 1 and {_MAX_BYTES}")
    return number


def recoded(at: str, read: Callable[[], T]) -> T:
    """What `read` gives; its refusal becomes one of the policy, with the field below `at`."""
    try:
        return read()
    except InvalidInput as error:
        field = str(error.detail.get("field", ""))
        problem = (error.message.partition(f"{field}: ")[2] if field else "") or error.message
        raise invalid(joined(at, field) if at and field else at or field, problem, error.hint) from error
