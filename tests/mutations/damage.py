"""Random damage to bytes, the same for the same seed: flips, cuts, runs, splices, and what breaks parsers of text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["damaged"]

_NUMBER = re.compile(rb"[0-9]+")
_HOSTILE = (
    b"NaN", b"-1", b"1e999", b"9" * 400, b"null", b"[" * 5000, b'{"a":' * 2000, b'"\\ud800"', b"\x00", b"\xff\xfe",
    b"../../etc/passwd", b"A" * 70_000, b'"signed":{},', b"true",
)  # fmt: skip


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _truncate(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _run(data: bytearray, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data)), rng.choice((1, 4, 64, 1024))
    data[at : at + length] = bytes([rng.choice((0, 0xFF, 0x20))]) * len(data[at : at + length])
    return bytes(data)


def _remove(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 8, 512))]
    return bytes(data)


def _insert(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 8, 512))), rng.choice(_HOSTILE)))
    return bytes(data)


def _splice(data: bytearray, rng: random.Random) -> bytes:
    source, target, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice((4, 32, 512))
    piece = data[source : source + length]
    data[target : target + len(piece)] = piece
    return bytes(data)


def _number(data: bytearray, rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return _flip(data, rng)
    match = rng.choice(found)
    other = rng.choice((b"0", b"-1", b"1", b"9999999999999999999999", str(int(match[0][:18]) + 1).encode(), b"1.5"))
    data[match.start() : match.end()] = other
    return bytes(data)


def _twice(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((16, 100, 1000)))
    return bytes(data[:end] + data[start:])


_WAYS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flip, _flip, _flip, _truncate, _run, _remove, _insert, _splice, _number, _twice),
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Other bytes than `data`, near it."""
    while True:
        other = rng.choice(_WAYS)(bytearray(data), rng)
        if other != data:
            return other
