"""Arrays in files (`.npy` 1.0), read without trust.

Only the form that NumPy writes for plain numbers in C order is read, by a pattern and not by evaluating the header as
Python, which is what NumPy's own reader does; and there must be exactly the bytes that the header promises.
"""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np

from shared import durable, limits
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["array_bytes", "load_array", "parse_array"]

_MAX_HEADER_BYTES = 1024
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)\{'descr': '(?P<dtype>[<|](?:b1|[iu][1248]|f[248]))', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:[0-9]{1,12}, ?){0,16}(?:[0-9]{1,12})?)\), \} *\n",
    re.DOTALL,
)


def array_bytes(array: Array) -> bytes:
    """The `.npy` bytes of an array, C order; equal arrays give equal bytes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array, order="C"), version=(1, 0), allow_pickle=False)
    return out.getvalue()


def parse_array(data: bytes, what: str = "array") -> Array:
    """The array of `.npy` bytes; error `array.malformed`."""
    found = _HEADER.match(data[:_MAX_HEADER_BYTES])
    if found is None or int.from_bytes(found["length"], "little") != found.end() - 10:
        raise InvalidInput(
            "array.malformed",
            f"The {what} is not a .npy file of plain numbers in C order.",
            hint="Write it with np.save.",
        )
    shape = tuple(int(size) for size in found["shape"].replace(b" ", b"").split(b",") if size)
    dtype = np.dtype(found["dtype"].decode())
    if math.prod(shape) * dtype.itemsize != len(data) - found.end():
        raise InvalidInput("array.malformed", f"The {what} does not hold as many numbers as it says.")
    try:
        return np.frombuffer(data[found.end() :], dtype).reshape(shape)
    except ValueError as error:  # no numbers at all in a shape of impossible size
        raise InvalidInput("array.malformed", f"The {what} has the impossible shape {shape}."[:300]) from error


def load_array(path: Path, *, limit: int = limits.MAX_BUNDLE_ENTRY_BYTES) -> Array:
    """The array in a `.npy` file of at most `limit` bytes; errors `array.malformed`, `storage.*`."""
    return parse_array(durable.read_file(path, limit=limit), path.name)
