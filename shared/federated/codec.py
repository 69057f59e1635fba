"""Updates as bytes: one flat vector of differences, whole, in 8 bits, or only its largest entries. Pure.

Rules:
- The device sends the difference to the weights that it was given, so small numbers stay small when they are rounded.
- `sizes` are the numbers of elements of the model's tensors in their fixed order. Both sides know them; an update that
  does not have exactly the length that follows from them is refused, before anything of it is used.
- What rounding and leaving out lose is kept by the device (`residual`) and added to its next difference, so that
  nothing is lost for good (error feedback: Seide et al. 2014, Karimireddy et al. 2019).
- Decoding gives finite numbers or an error; it never allocates more than the vector.

Form: one byte for the scheme, then
  float32  the vector, little-endian
  int8     a float32 scale for each tensor, then a signed byte for each element
  top      a float32 scale for each tensor, then a bit for each element (most significant first) that says whether it
           is there, then a signed byte for each that is
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

__all__ = ["Scheme", "decode", "encode", "encoded_bytes"]

Vector = NDArray[np.float32]


class Scheme(StrEnum):
    """How an update is written."""

    FLOAT32 = "float32"
    INT8 = "int8"
    TOP = "top"


_TAGS = {Scheme.FLOAT32: 1, Scheme.INT8: 2, Scheme.TOP: 3}
_SCHEMES = {tag: scheme for scheme, tag in _TAGS.items()}
_STEPS = 127


def encode(
    difference: Vector, sizes: Sequence[int], scheme: Scheme, residual: Vector | None = None, keep: float = 0.1
) -> tuple[bytes, Vector]:
    """The update and what it leaves out (the next `residual`), for a difference [sum(sizes)].

    keep: the share of entries that `top` sends. Errors: `update.not_finite`, `update.shape`.
    """
    total = sum(sizes)
    if difference.shape != (total,) or (residual is not None and residual.shape != (total,)):
        raise InvalidInput("update.shape", f"The update has {difference.size} weights; the model has {total} weights.")
    wanted = np.asarray(difference if residual is None else difference + residual, np.float32)
    if not np.isfinite(wanted).all():
        raise InvalidInput("update.not_finite", "Training gave a weight that is not a finite number.")
    tag = bytes([_TAGS[scheme]])
    if scheme is Scheme.FLOAT32:
        return tag + wanted.astype("<f4").tobytes(), np.zeros(total, np.float32)
    there = _largest(wanted, keep) if scheme is Scheme.TOP else np.ones(total, bool)
    scales = _scales(np.where(there, wanted, np.float32(0)), sizes)
    spread = np.repeat(scales, sizes)
    steps = np.rint(np.divide(wanted, spread, out=np.zeros_like(wanted), where=spread > 0))
    rounded = np.clip(steps, -_STEPS, _STEPS).astype(np.int8)
    sent = np.where(there, rounded * spread, np.float32(0)).astype(np.float32)
    mask = np.packbits(there).tobytes() if scheme is Scheme.TOP else b""
    return tag + scales.astype("<f4").tobytes() + mask + rounded[there].tobytes(), wanted - sent


def decode(data: bytes, sizes: Sequence[int]) -> Vector:
    """The difference [sum(sizes)] in `data`; errors `update.malformed`, `update.shape`, `update.not_finite`."""
    scheme = _SCHEMES.get(data[0]) if data else None
    if scheme is None:
        raise InvalidInput("update.malformed", "The update does not begin with a known scheme.")
    total, body = sum(sizes), memoryview(data)[1:]
    if scheme is Scheme.FLOAT32:
        _require(len(body) == 4 * total, len(data))
        vector = np.frombuffer(body, "<f4").astype(np.float32)
    else:
        vector = _rounded(scheme, body, sizes, total, len(data))
    if not np.isfinite(vector).all():
        raise InvalidInput("update.not_finite", "The update holds a weight that is not a finite number.")
    return vector


def encoded_bytes(sizes: Sequence[int], scheme: Scheme, keep: float = 0.1) -> int:
    """The length of an update in bytes."""
    total = sum(sizes)
    if scheme is Scheme.FLOAT32:
        return 1 + 4 * total
    if scheme is Scheme.INT8:
        return 1 + 4 * len(sizes) + total
    return 1 + 4 * len(sizes) + -(-total // 8) + _kept(total, keep)


def _rounded(scheme: Scheme, body: memoryview, sizes: Sequence[int], total: int, length: int) -> Vector:
    head = 4 * len(sizes)
    _require(len(body) >= head, length)
    scales = np.frombuffer(body[:head], "<f4").astype(np.float32)
    if not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise InvalidInput("update.not_finite", "A scale of the update is not a finite positive number.")
    if scheme is Scheme.INT8:
        _require(len(body) == head + total, length)
        steps = np.frombuffer(body[head:], np.int8).astype(np.float32)
    else:
        bits = -(-total // 8)
        _require(len(body) >= head + bits, length)
        flags = np.unpackbits(np.frombuffer(body[head : head + bits], np.uint8))
        there = flags[:total].astype(bool)
        _require(not flags[total:].any() and len(body) == head + bits + int(there.sum()), length)
        steps = np.zeros(total, np.float32)
        steps[there] = np.frombuffer(body[head + bits :], np.int8)
    with np.errstate(over="ignore"):
        return np.asarray(steps * np.repeat(scales, sizes), np.float32)


def _require(right: bool, length: int) -> None:
    if not right:
        raise InvalidInput("update.shape", f"The update of {length} bytes does not fit the weights of the model.")


def _kept(total: int, keep: float) -> int:
    if not 0.0 < keep <= 1.0:
        raise ValueError("keep is a share above 0 and at most 1")
    return max(1, round(total * keep)) if total else 0


def _largest(x: Vector, keep: float) -> NDArray[np.bool_]:
    count = _kept(x.size, keep)
    there = np.zeros(x.size, bool)
    if count:
        there[np.argpartition(np.abs(x), x.size - count)[x.size - count :]] = True
    return there


def _scales(x: Vector, sizes: Sequence[int]) -> Vector:
    edges = np.concatenate([[0], np.cumsum(sizes)])
    peaks = [np.abs(x[a:b]).max(initial=0.0) for a, b in pairwise(edges)]
    return (np.array(peaks, np.float32) / np.float32(_STEPS)).astype(np.float32)
