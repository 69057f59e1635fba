"""The bytes of a delta: a head, then operations in the order of the result, then nothing. Pure.

    head        magic "SKDELTA", version 1, SHA-256 and length of the old bundle, of the new one, number of operations
    operation   kind, offset and length of what is read of the old bundle, length of the result, length of the payload
    payload     one Zstandard frame; none for `copy`

All integers are little-endian. Every number is held to its bound before anything is read or reserved for it: the
lengths of the results add up to the new bundle, and what is read of the old one stays in proportion. Errors:
`delta.malformed`, `delta.version`, `delta.too_large`, `delta.wrong_pair`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from shared import limits
from shared.errors import InvalidInput, TooLarge, Untrusted

__all__ = ["HEAD_BYTES", "OP_BYTES", "Budget", "Head", "Kind", "Op", "Pair", "pack_head", "pack_op", "parse_head"]

_MAGIC = b"SKDELTA"
_VERSION = 1
_HEAD = struct.Struct("<7sB32sQ32sQI")
_OP = struct.Struct("<BQIII")
HEAD_BYTES = _HEAD.size
OP_BYTES = _OP.size


class Kind(IntEnum):
    """How an operation makes its part of the result.

    COPY: bytes of the old bundle. LITERAL: the payload. ADD: old bytes plus the payload, byte by byte modulo 256.
    PLANES: old bytes XOR the payload, which is ordered by byte of each four. PATCH: the payload, with old bytes as its
    dictionary.
    """

    COPY = 0
    LITERAL = 1
    ADD = 2
    PLANES = 3
    PATCH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """From which bundle to which: SHA-256 (hex) and length of each."""

    from_sha256: str
    from_bytes: int
    to_sha256: str
    to_bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a delta."""

    pair: Pair
    ops: int


@dataclass(frozen=True, slots=True)
class Op:
    """One operation without its payload."""

    kind: Kind
    source_offset: int
    source_bytes: int
    result_bytes: int
    payload_bytes: int


def pack_head(head: Head) -> bytes:
    """The head's bytes."""
    pair = head.pair
    old, new = bytes.fromhex(pair.from_sha256), bytes.fromhex(pair.to_sha256)
    return _HEAD.pack(_MAGIC, _VERSION, old, pair.from_bytes, new, pair.to_bytes, head.ops)


def pack_op(op: Op) -> bytes:
    """An operation's bytes."""
    return _OP.pack(op.kind, op.source_offset, op.source_bytes, op.result_bytes, op.payload_bytes)


def parse_head(data: bytes, expected: Pair) -> Head:
    """The head in exactly `HEAD_BYTES`; it must be of the expected pair."""
    magic, version, old, old_bytes, new, new_bytes, ops = _HEAD.unpack(data)
    if magic != _MAGIC:
        raise InvalidInput("delta.malformed", "The file is not a delta.")
    if version != _VERSION:
        raise InvalidInput("delta.version", f"The delta has the form {version}; this program knows {_VERSION}.")
    pair = Pair(from_sha256=old.hex(), from_bytes=old_bytes, to_sha256=new.hex(), to_bytes=new_bytes)
    if pair != expected:
        raise Untrusted("delta.wrong_pair", "The delta is between other bundles than was asked for.")
    if max(pair.from_bytes, pair.to_bytes) > limits.MAX_BUNDLE_BYTES:
        raise TooLarge("delta.too_large", f"The delta is of a bundle over {limits.MAX_BUNDLE_BYTES} bytes.")
    if not 1 <= ops <= limits.MAX_DELTA_OPS_COUNT:
        raise InvalidInput("delta.malformed", f"The delta has {ops} operations.")
    return Head(pair, ops)


class Budget:
    """What is left for the operations of one delta; it says no before anything is spent."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.result_left = pair.to_bytes
        self._source_left = 4 * (pair.from_bytes + pair.to_bytes) + limits.MAX_DELTA_SOURCE_BYTES

    def parse_op(self, data: bytes) -> Op:
        """The operation in exactly `OP_BYTES`, within all bounds."""
        number, offset, source, result, payload = _OP.unpack(data)
        if number not in Kind._value2member_map_:
            raise InvalidInput("delta.malformed", f"The delta has an operation of the unknown kind {number}.")
        op = Op(Kind(number), offset, source, result, payload)
        if not (1 <= result <= self.result_left and source <= self._source_left):
            raise InvalidInput("delta.malformed", "The operations of the delta do not add up to the bundle.")
        if offset + source > self._pair.from_bytes or not _is_consistent(op):
            raise InvalidInput("delta.malformed", f"An operation of the delta ({op.kind.name}) contradicts itself.")
        self.result_left -= result
        self._source_left -= source
        return op


def _is_consistent(op: Op) -> bool:
    if op.kind is Kind.COPY:
        return op.payload_bytes == 0 and op.source_bytes == op.result_bytes
    if op.result_bytes > limits.MAX_DELTA_PART_BYTES:
        return False
    if not 1 <= op.payload_bytes <= op.result_bytes + op.result_bytes // 128 + 64:
        return False
    match op.kind:
        case Kind.LITERAL:
            return op.source_bytes == 0 and op.source_offset == 0
        case Kind.PATCH:
            return 1 <= op.source_bytes <= limits.MAX_DELTA_SOURCE_BYTES
        case _:
            return op.source_bytes == op.result_bytes
