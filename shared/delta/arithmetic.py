"""Differences of equally long bytes, many at a time as one large integer. Pure, without NumPy.

Weights of a retrained model differ a little everywhere: `subtract` (byte by byte, modulo 256) turns that into small
numbers for int8; `xor` and `to_planes` gather the quiet sign and exponent bytes of float32. Working memory is a few
blocks, whatever the length.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["add", "from_planes", "subtract", "to_planes", "xor"]

_BLOCK = 64 * 1024
_PLANES = 4
_LOW = int.from_bytes(b"\x7f" * _BLOCK, "little")
_HIGH = int.from_bytes(b"\x80" * _BLOCK, "little")


def _masks(size: int) -> tuple[int, int]:
    if size == _BLOCK:
        return _LOW, _HIGH
    return int.from_bytes(b"\x7f" * size, "little"), int.from_bytes(b"\x80" * size, "little")


def _by_block(a: bytes, b: bytes, combine: Callable[[int, int, int, int], int]) -> bytes:
    if len(a) != len(b):
        raise ValueError("the lengths differ")
    out = bytearray()
    for at in range(0, len(a), _BLOCK):
        x, y = a[at : at + _BLOCK], b[at : at + _BLOCK]
        low, high = _masks(len(x))
        both = combine(int.from_bytes(x, "little"), int.from_bytes(y, "little"), low, high)
        out += both.to_bytes(len(x), "little")
    return bytes(out)


def add(a: bytes, b: bytes) -> bytes:
    """`a + b`, byte by byte, modulo 256. Seven bits are added without a carry into the next byte, then the eighth."""
    return _by_block(a, b, lambda x, y, low, high: ((x & low) + (y & low)) ^ ((x ^ y) & high))


def subtract(a: bytes, b: bytes) -> bytes:
    """`a - b`, byte by byte, modulo 256: what must be added to `b` to give `a`."""
    return _by_block(a, b, lambda x, y, low, high: ((x | high) - (y & low)) ^ ((x ^ y ^ high) & high))


def xor(a: bytes, b: bytes) -> bytes:
    """`a ^ b`."""
    return _by_block(a, b, lambda x, y, low, high: x ^ y)


def to_planes(data: bytes) -> bytes:
    """All first bytes of each four, then all second, third and fourth ones."""
    return b"".join(data[plane::_PLANES] for plane in range(_PLANES))


def from_planes(data: bytes) -> bytes:
    """What `to_planes` was given."""
    out = bytearray(len(data))
    at = 0
    for plane in range(_PLANES):
        size = len(range(plane, len(data), _PLANES))
        out[plane::_PLANES] = data[at : at + size]
        at += size
    return bytes(out)
