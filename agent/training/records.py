"""The format of the sample file: a head that names the key, then records that are found again behind damage.

A record is a mark, its length, a checksum, a nonce and what AES-GCM made of the content. The checksum finds what a torn
write or a bad disk spoiled, at little cost; that nothing is ever decrypted wrongly is AES-GCM's own doing, which also
binds each record to the head. Behind a bad record reading goes on at the next mark.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared import limits

__all__ = ["OVERHEAD_BYTES", "Found", "head", "scan", "seal"]

_MAGIC = b"SKSB0001"
_MARK = b"\xc5Sk\x9e"
_FIXED = struct.Struct("<4sII")
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MAX_BYTES = 4 * limits.MAX_SAMPLE_BYTES + limits.MAX_SAMPLES_COUNT * 16
OVERHEAD_BYTES = _FIXED.size + _NONCE_BYTES + _TAG_BYTES


@dataclass(frozen=True, slots=True)
class Found:
    """A record: its content, and where it stands in the file."""

    content: bytes
    start: int
    end: int


def head(key_id: bytes) -> bytes:
    """The first bytes of a file that is written with this key."""
    return _MAGIC + key_id


def seal(key: bytes, key_id: bytes, content: bytes) -> bytes:
    """A record, ready to be appended."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, content, head(key_id))
    return _FIXED.pack(_MARK, len(sealed), zlib.crc32(sealed)) + sealed


def scan(data: bytes, key: bytes, key_id: bytes) -> Iterator[Found | None]:
    """The records of a file, in order; None for each stretch of damage. A file of another key is one stretch."""
    if not data.startswith(head(key_id)):
        yield None
        return
    at, cipher = len(head(key_id)), AESGCM(key)
    while at < len(data):
        end = _end(data, at)
        content = _open(cipher, data[at + _FIXED.size : end], head(key_id)) if end else None
        if content is not None:
            yield Found(content, at, end)
            at = end
            continue
        yield None
        at = _next(data, at + 1)


def _end(data: bytes, at: int) -> int:
    """Where the record at `at` ends; 0 when there is no whole one."""
    if len(data) < at + _FIXED.size:
        return 0
    mark, length, checksum = _FIXED.unpack_from(data, at)
    start, end = at + _FIXED.size, at + _FIXED.size + length
    if mark != _MARK or not _NONCE_BYTES + _TAG_BYTES <= length <= _MAX_BYTES or end > len(data):
        return 0
    return end if zlib.crc32(data[start:end]) == checksum else 0


def _next(data: bytes, at: int) -> int:
    """The next place at which a whole record stands, or the end."""
    while (found := data.find(_MARK, at)) >= 0:
        if _end(data, found):
            return found
        at = found + 1
    return len(data)


def _open(cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes | None:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except InvalidTag:
        return None
