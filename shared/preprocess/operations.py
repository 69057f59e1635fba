"""The operations that a manifest may list, as data; field meanings and bounds, no computation.

Every number must be finite. A per-channel field holds one number, or one for each element of the last dimension.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.errors import InvalidInput

__all__ = [
    "OPERATIONS",
    "Cast",
    "Clip",
    "Normalise",
    "OneHot",
    "Operation",
    "Quantise",
    "Resize",
    "Scale",
    "Window",
    "parse_operation",
]

Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
Positive = Annotated[float, Meta(ge=1e-30, le=1e30)]
Numbers = Annotated[list[Number], Meta(min_length=1, max_length=1 << 16)]
Positives = Annotated[list[Positive], Meta(min_length=1, max_length=1 << 16)]
Pixels = Annotated[int, Meta(ge=1, le=1 << 14)]


class Cast(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="cast"):
    """Change the type. To an integer type: round half to even, then saturate. To bool: is it other than zero?"""

    dtype: Literal["float32", "int8", "uint8", "int16", "int32", "int64", "bool"]


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="scale"):
    """x * factor + offset, float32."""

    factor: Number = 1.0
    offset: Number = 0.0


class Normalise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="normalise"):
    """(x - mean) / std, float32; each a number or a list over the last dimension."""

    mean: Number | Numbers
    std: Positive | Positives


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="resize"):
    """Resize H x W or H x W x C with half-pixel centres; `bilinear` gives float32, `nearest` keeps the type."""

    height: Pixels
    width: Pixels
    method: Literal["bilinear", "nearest"] = "bilinear"


class Clip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="clip"):
    """Limit each value to [min, max], float32."""

    min: Number
    max: Number


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="window"):
    """Cut N or N x C into frames of `length`, one every `step`: F x length or F x length x C; a rest is left out."""

    length: Annotated[int, Meta(ge=1, le=1 << 20)]
    step: Annotated[int, Meta(ge=1, le=1 << 20)]


class OneHot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="one_hot"):
    """Integers 0..depth-1 to float32 rows of a new last dimension; other values are refused, or give zeros."""

    depth: Annotated[int, Meta(ge=2, le=1 << 16)]
    unknown: Literal["refuse", "zeros"] = "refuse"


class Quantise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="op", tag="quantise"):
    """round(x / scale) + zero_point, saturated, as the integer type."""

    scale: Positive
    zero_point: Annotated[int, Meta(ge=-32768, le=32767)] = 0
    dtype: Literal["int8", "uint8", "int16"] = "int8"


Operation = Cast | Scale | Normalise | Resize | Clip | Window | OneHot | Quantise
OPERATIONS: tuple[str, ...] = ("cast", "scale", "normalise", "resize", "clip", "window", "one_hot", "quantise")


def parse_operation(raw: Any, index: int) -> Operation:
    """One operation from plain values, or `InvalidInput` (`preprocess.operation`) naming the index and the field."""
    name = raw.get("op") if isinstance(raw, dict) else None
    if name not in OPERATIONS:
        raise InvalidInput(
            "preprocess.operation",
            f"preprocessing[{index}].op: {str(name)[:40]!r} is not an operation.",
            hint=f"The operations are {', '.join(OPERATIONS)}.",
        )
    try:
        operation: Operation = msgspec.convert(raw, Operation)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidInput("preprocess.operation", f"preprocessing[{index}]{_place(str(error))}"[:300]) from error
    for field in operation.__struct_fields__:
        value = getattr(operation, field)
        numbers = value if isinstance(value, list) else [value]
        if not all(math.isfinite(n) for n in numbers if isinstance(n, int | float)):
            raise InvalidInput("preprocess.operation", f"preprocessing[{index}].{field}: a number is not finite.")
    return operation


def _place(message: str) -> str:
    """msgspec's "text - at `$.field`" as ".field: text"."""
    text, found, path = message.rpartition(" - at `$")
    return f"{path.rstrip('`')}: {text}." if found else f": {message}."
