"""The arithmetic of the operations over batches [batch, ...]; each maker returns a function of one array.

Tables (indices, weights, constants) are computed once, when the pipeline is compiled. Constants are 0-d arrays and
operators work in place: at 64 elements a call costs more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy import maximum, minimum, rint

from shared.errors import InvalidInput

__all__ = ["Array", "Kernel", "affine", "bilinear", "cast", "clip", "nearest", "one_hot", "quantise", "window"]

Array = npt.NDArray[Any]
_FLOAT32 = np.dtype(np.float32)
Kernel = Callable[[Array], Array]

_LARGEST = {"int32": 2147483647.0, "int64": 9223372036854774784.0}  # the greatest float64 inside each range


def affine(factor: Array, offset: Array) -> Kernel:
    """x * factor + offset in float32; a step that would change nothing is left out."""
    a, b = factor.astype(np.float32), offset.astype(np.float32)
    multiplies, adds = bool(np.any(a != 1.0)), bool(np.any(b != 0.0))

    def apply(x: Array) -> Array:
        y: Array = x if x.dtype == _FLOAT32 else x.astype(np.float32)
        if multiplies:
            y = y * a
            if adds:
                y += b
            return y
        return y + b if adds else y

    return apply


def cast(dtype: str) -> Kernel:
    """To `dtype`: integers saturate, floats are rounded half to even first."""
    target = np.dtype(dtype)
    if target.kind in "bf":
        return lambda x: x.astype(target)
    info = np.iinfo(target)

    def apply(x: Array) -> Array:
        if x.dtype.kind == "b":
            return x.astype(target)
        if x.dtype.kind == "f":
            wide: Array = np.rint(x.astype(np.float64))
            return np.clip(wide, float(info.min), _LARGEST.get(dtype, float(info.max))).astype(target)
        source = np.iinfo(x.dtype)
        return np.clip(x, max(info.min, source.min), min(info.max, source.max)).astype(target)

    return apply


def clip(low: float, high: float) -> Kernel:
    """Limit to [low, high] in float32."""
    lowest, highest = np.float32(low), np.float32(high)

    def apply(x: Array) -> Array:
        y: Array = np.clip(x if x.dtype == _FLOAT32 else x.astype(np.float32), lowest, highest)
        return y

    return apply


def quantise(factor: Array, offset: Array, dtype: str) -> Kernel:
    """round(x * factor + offset), saturated, as the integer `dtype`."""
    target = np.dtype(dtype)
    info = np.iinfo(target)
    a, b = factor.astype(np.float32), offset.astype(np.float32)
    lowest, highest = np.asarray(info.min, np.float32), np.asarray(info.max, np.float32)

    def apply(x: Array) -> Array:
        y: Array = (x if x.dtype == _FLOAT32 else x.astype(_FLOAT32)) * a
        y += b
        rint(y, y)
        y = minimum(maximum(y, lowest), highest)
        return y.astype(target)

    return apply


def _positions(source: int, target: int) -> Array:
    return (np.arange(target) + 0.5) * (source / target) - 0.5


def nearest(height: int, width: int, new_height: int, new_width: int) -> Kernel:
    """Nearest source pixel, half-pixel centres, over axes 1 and 2."""
    rows = np.clip(np.floor(_positions(height, new_height) + 0.5), 0, height - 1).astype(np.intp)
    columns = np.clip(np.floor(_positions(width, new_width) + 0.5), 0, width - 1).astype(np.intp)
    return lambda x: x[:, rows[:, None], columns[None, :]]


def bilinear(height: int, width: int, new_height: int, new_width: int) -> Kernel:
    """Bilinear interpolation, half-pixel centres, no antialiasing, over axes 1 and 2; float32."""
    across_rows = _interpolate(height, new_height, 1)
    across_columns = _interpolate(width, new_width, 2)
    return lambda x: across_columns(across_rows(x.astype(np.float32)))


def _interpolate(source: int, target: int, axis: int) -> Kernel:
    place = np.clip(_positions(source, target), 0, source - 1)
    low = np.floor(place).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    share = (place - low).astype(np.float32)

    def apply(x: Array) -> Array:
        weight = share.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        first: Array = np.take(x, low, axis=axis)
        between: Array = first + (np.take(x, high, axis=axis) - first) * weight
        return between

    return apply


def window(size: int, length: int, step: int) -> Kernel:
    """Frames of `length`, one every `step`, over axis 1."""
    frames = np.arange(0, size - length + 1, step)[:, None] + np.arange(length)[None, :]
    return lambda x: x[:, frames]


def one_hot(depth: int, refuse: bool) -> Kernel:
    """A new last axis of `depth`, float32; `InvalidInput` (`input.category`) for a value outside, if `refuse`."""
    classes = np.arange(depth)

    def apply(x: Array) -> Array:
        if refuse and x.size and (int(x.min()) < 0 or int(x.max()) >= depth):
            raise InvalidInput(
                "input.category",
                f"The input holds a category outside 0 to {depth - 1}.",
                hint="Send categories that the model was trained on.",
            )
        hot: Array = (x[..., None] == classes).astype(np.float32)
        return hot

    return apply
