"""Counts as bytes: one byte that says how wide each number is, then the numbers, little-endian.

The smallest width that holds them all is taken, so a quiet window is a quarter of the size of a busy one. Negative
numbers occur only where noise was added for privacy. A reader gives the number of counts that it expects, so nothing
in the bytes decides how much memory is taken; error `counts.malformed`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInput

__all__ = ["Counts", "pack_counts", "unpack_counts"]

Counts: TypeAlias = npt.NDArray[np.int64]
_WIDTHS: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    0x81: np.dtype("i1"),
    0x82: np.dtype("<i2"),
    0x84: np.dtype("<i4"),
}


def pack_counts(counts: npt.ArrayLike) -> bytes:
    """The bytes of whole numbers that fit into 32 bits; none at all give empty bytes."""
    found = np.asarray(counts).reshape(-1)
    if not found.size:
        return b""
    least, most = int(found.min()), int(found.max())
    for width, dtype in _WIDTHS.items():
        info = np.iinfo(dtype)
        if info.min <= least and most <= info.max:
            return bytes([width]) + found.astype(dtype).tobytes()
    raise InvalidInput("counts.malformed", f"Counts from {least} to {most} do not fit into 32 bits.")


def unpack_counts(data: bytes, expected: int) -> Counts:
    """Exactly `expected` counts, or `counts.malformed`; empty bytes are no counts, which must be what is expected."""
    dtype = _WIDTHS.get(data[0]) if data else None
    if dtype is None:
        if data or expected:
            raise InvalidInput("counts.malformed", f"{expected} counts were expected; the bytes are none.")
        return np.zeros(0, np.int64)
    if len(data) != 1 + expected * dtype.itemsize:
        raise InvalidInput("counts.malformed", f"{len(data)} bytes are not {expected} counts of {dtype.itemsize}.")
    return np.frombuffer(data, dtype, offset=1).astype(np.int64)
