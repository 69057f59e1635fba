"""JSON that is signed or addressed: one canonical writing, one strict reading.

Writing: keys sorted, no white space, UTF-8, so that the same value always gives the same bytes.
Reading: bounded first, then duplicate keys, NaN and infinities are refused. Verification is always over the bytes
as received; nothing is ever re-encoded in order to be verified.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

import msgspec

from shared.errors import InvalidInput, TooLarge

__all__ = ["dumps", "loads", "loads_as"]

T = TypeVar("T")


def dumps(value: Any) -> bytes:
    """The canonical bytes of a struct or of plain JSON values; non-finite numbers are refused (`json.not_finite`)."""
    plain = msgspec.to_builtins(value, order="sorted")
    try:
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidInput("json.not_finite", "A number to be written is NaN or infinite.") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("an object has the same key twice")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def loads(data: bytes, *, limit: int, what: str = "document") -> Any:
    """Plain values from strict JSON of at most `limit` bytes; errors `json.too_large`, `json.malformed`."""
    if len(data) > limit:
        raise TooLarge("json.too_large", f"The {what} has {len(data)} bytes; at most {limit} are accepted.")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("json.malformed", f"The {what} is not valid JSON: {error}."[:300]) from error


def loads_as(data: bytes, kind: type[T], *, limit: int, what: str = "document") -> T:
    """A struct from strict JSON; besides the errors of `loads`, `json.wrong_shape` names the field."""
    plain = loads(data, limit=limit, what=what)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput("json.wrong_shape", f"The {what} is not as expected: {error}."[:300]) from error
