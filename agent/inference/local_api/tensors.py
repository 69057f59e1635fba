"""Tensors on the wire: the protocol's type names, JSON data and little-endian binary data; no I/O.

Conversions are exact: a number with a fraction is no integer, text is no number, and what is out of range is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.preprocess.kernels import Array

__all__ = ["DATATYPES", "datatype_of", "from_binary", "from_json"]

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype_of(dtype: str) -> str:
    """The protocol's name of a manifest's type."""
    return _NAMES[np.dtype(dtype)]


def _shape(shape: Sequence[int], name: str) -> tuple[int, ...]:
    if len(shape) > limits.MAX_INFER_NESTING_COUNT or any(n < 0 for n in shape):
        raise InvalidInput("input.shape", f"The shape {str(shape)[:80]} of {name} is not valid.")
    if math.prod(shape) > limits.MAX_TENSOR_ELEMENTS_COUNT:
        raise TooLarge("input.too_many", f"The shape {str(shape)[:80]} of {name} has too many elements.")
    return tuple(shape)


def from_json(data: Any, dtype: np.dtype[Any], shape: Sequence[int] | None, name: str) -> Array:
    """JSON numbers, flat or nested, as an array of `dtype` and `shape` (None: the shape of the nesting)."""
    try:
        found = np.array(data)
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise InvalidInput("input.data", f"The data of {name} is not a regular array of numbers.") from error
    converted = _converted(found, dtype, name)
    if shape is None:
        return converted
    wanted = _shape(shape, name)
    if converted.size != math.prod(wanted):
        raise InvalidInput(
            "input.shape",
            f"{name} has {converted.size} numbers, but its shape {list(wanted)} wants {math.prod(wanted)}.",
        )
    return converted.reshape(wanted)


def _converted(found: Array, dtype: np.dtype[Any], name: str) -> Array:
    kind = found.dtype.kind
    if dtype.kind == "f" and kind in "fiu":
        with np.errstate(over="ignore"):  # becomes infinite and is refused as such by the model
            return found.astype(dtype)
    if dtype.kind == "b" and kind == "b":
        return found
    if dtype.kind in "iu" and kind in "iu":
        info = np.iinfo(dtype)
        if found.size == 0 or (int(found.min()) >= info.min and int(found.max()) <= info.max):
            return found.astype(dtype)
    raise InvalidInput(
        "input.data",
        f"The data of {name} is not all {_NAMES[dtype]}.",
        hint="Check the type and the range of each value.",
    )


def from_binary(data: memoryview, dtype: np.dtype[Any], shape: Sequence[int], name: str) -> Array:
    """Raw little-endian bytes, row major, as an array."""
    wanted = _shape(shape, name)
    size = math.prod(wanted) * dtype.itemsize
    if size != len(data):
        raise InvalidInput(
            "input.shape", f"{name} has {len(data)} bytes, but {_NAMES[dtype]} {list(wanted)} wants {size}."
        )
    raw = np.frombuffer(data, np.uint8 if dtype.kind == "b" else dtype)
    if dtype.kind == "b":
        if raw.size and int(raw.max()) > 1:
            raise InvalidInput("input.data", f"The bytes of {name} are not all 0 or 1.")
        raw = raw.astype(bool)
    return raw.reshape(wanted)
