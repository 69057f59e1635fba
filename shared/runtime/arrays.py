"""Arrays in files (`.npy`), read without trust: bounded, no objects, exactly the bytes that the header promises."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from shared import durable, limits
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["array_bytes", "load_array", "parse_array"]

_KINDS = "biuf"


def array_bytes(array: Array) -> bytes:
    """The `.npy` bytes of an array, C order; equal arrays give equal bytes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def parse_array(data: bytes, what: str = "array") -> Array:
    """The array of `.npy` bytes; error `array.malformed`."""
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("only version 1.0 is read")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, OverflowError) as error:
        raise InvalidInput("array.malformed", f"The {what} is not a .npy file: {error}"[:300]) from error
    rest = data[stream.tell() :]
    plain = dtype.kind in _KINDS and not fortran and all(isinstance(n, int) and n >= 0 for n in shape)
    if not plain or math.prod(shape) * dtype.itemsize != len(rest):
        raise InvalidInput("array.malformed", f"The {what} is not a plain C-order array of the size that it says.")
    return np.frombuffer(rest, dtype).reshape(shape)


def load_array(path: Path, *, limit: int = limits.MAX_BUNDLE_ENTRY_BYTES) -> Array:
    """The array in a `.npy` file of at most `limit` bytes; errors `array.malformed`, `storage.*`."""
    return parse_array(durable.read_file(path, limit=limit), path.name)
