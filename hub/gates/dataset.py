"""Held-out data: an `.npz` file with `x` [n, *input.shape] and `y` [n] (class numbers) or [n, …] (numbers).

A zip file can promise little and unpack to much, so its directory is checked before anything is unpacked: exactly two
entries, their sizes within bounds and equal to what the arrays' headers say. Objects (pickles) are refused.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.runtime.arrays import parse_array

__all__ = ["Shape", "describe_dataset", "load_dataset"]

Array = NDArray[np.generic]
_ENTRIES = ("x.npy", "y.npy")
_KINDS = "biuf"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the headers of a data set say."""

    rows: int
    x_shape: tuple[int, ...]
    x_dtype: str
    y_shape: tuple[int, ...]
    y_dtype: str


def describe_dataset(path: Path) -> Shape:
    """Check the zip directory and the two headers; errors `dataset.malformed`, `dataset.too_large`."""
    with _open(path) as archive:
        (x_shape, x_dtype), (y_shape, y_dtype) = (_header(archive, name) for name in _ENTRIES)
    if not x_shape or not y_shape or x_shape[0] != y_shape[0] or x_shape[0] < 1:
        raise _malformed(f"x has shape {list(x_shape)} and y has {list(y_shape)}; both need the same number of rows")
    return Shape(x_shape[0], x_shape, x_dtype, y_shape, y_dtype)


def load_dataset(path: Path) -> tuple[Array, Array]:
    """The arrays `x` and `y`; errors `dataset.malformed`, `dataset.too_large`."""
    describe_dataset(path)
    with _open(path) as archive:
        x, y = (_array(archive, name) for name in _ENTRIES)
    return x, y


def _malformed(problem: str) -> InvalidInput:
    return InvalidInput(
        "dataset.malformed",
        f"The data set is not usable: {problem}."[:300],
        hint="Write it with numpy.savez_compressed(path, x=…, y=…), plain arrays in C order.",
    )


def _open(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _malformed("it is not an .npz file") from error
    infos = archive.infolist()
    if sorted(info.filename for info in infos) != sorted(_ENTRIES):
        archive.close()
        raise _malformed("it must hold exactly the arrays x and y")
    if any(info.flag_bits & 0x1 or info.compress_type not in _METHODS for info in infos):
        archive.close()
        raise _malformed("it is encrypted or compressed in another way than deflate")
    if sum(info.file_size for info in infos) > limits.MAX_HELD_OUT_UNPACKED_BYTES:
        archive.close()
        raise TooLarge("dataset.too_large", f"The data set unpacks to over {limits.MAX_HELD_OUT_UNPACKED_BYTES} bytes.")
    return archive


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], str]:
    try:
        with archive.open(name) as stream:
            shape, fortran, dtype = _read_header(stream)
            rest = archive.getinfo(name).file_size - stream.tell()
    except (ValueError, SyntaxError, TypeError, KeyError, OverflowError, EOFError, zipfile.BadZipFile) as error:
        raise _malformed(f"{name} is not an array: {error}") from error
    except (RecursionError, MemoryError, NotImplementedError, zipfile.LargeZipFile) as error:
        raise _malformed(f"{name} is not an array") from error
    plain = dtype.kind in _KINDS and not fortran and all(isinstance(n, int) and n >= 0 for n in shape)
    if not plain or math.prod(shape) * dtype.itemsize != rest:
        raise _malformed(f"{name} is not a plain array of the size that it says")
    return shape, str(dtype)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("only version 1.0 of the array format is read")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, fortran, dtype


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    size = archive.getinfo(name).file_size
    try:
        with archive.open(name) as stream:
            data = stream.read(size + 1)
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise _malformed(f"{name} is damaged") from error
    if len(data) != size:
        raise _malformed(f"{name} has another length than its directory says")
    return parse_array(data, name)
