"""Making the new bundle from the old one and a delta: one pass, a few megabytes of memory, nothing believed.

Rules: a delta of another pair is refused before anything is read of it. Not a byte more than the new bundle has is ever
given out, and the result counts only if this returns. Errors: `delta.malformed`, `delta.version`, `delta.too_large`,
`delta.wrong_pair`, `delta.truncated`, `delta.trailing`, `delta.result_mismatch`, and what the source raises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from shared.delta.arithmetic import add, from_planes, xor
from shared.delta.codec import decompress
from shared.delta.format import HEAD_BYTES, OP_BYTES, Budget, Kind, Op, Pair, parse_head
from shared.delta.source import Source
from shared.errors import InvalidInput, Untrusted

__all__ = ["apply_delta"]

_BLOCK = 1 << 18


def apply_delta(delta: BinaryIO, source: Source, write: Callable[[bytes], None], expected: Pair) -> None:
    """Hand the new bundle to `write` block by block; it is the expected one when this returns.

    expected: what the release metadata says of the new bundle, and the installed record of the old one.
    """
    head = parse_head(_exactly(delta, HEAD_BYTES), expected)
    if source.size != expected.from_bytes:
        raise Untrusted("delta.wrong_pair", "The old bundle has another length than the delta is for.")
    budget, digest = Budget(expected), hashlib.sha256()
    for _number in range(head.ops):
        op = budget.parse_op(_exactly(delta, OP_BYTES))
        for block in _result(op, _exactly(delta, op.payload_bytes), source):
            digest.update(block)
            write(block)
    if budget.result_left:
        raise InvalidInput("delta.malformed", "The operations of the delta do not add up to the bundle.")
    if delta.read(1):
        raise InvalidInput("delta.trailing", "There are bytes after the end of the delta.")
    if digest.hexdigest() != expected.to_sha256:
        raise Untrusted("delta.result_mismatch", "The delta gives another bundle than was released.")


def _result(op: Op, payload: bytes, source: Source) -> Iterator[bytes]:
    if op.kind is Kind.COPY:
        for at in range(0, op.source_bytes, _BLOCK):
            yield source.read(op.source_offset + at, min(_BLOCK, op.source_bytes - at))
        return
    old = source.read(op.source_offset, op.source_bytes) if op.source_bytes else b""
    match op.kind:
        case Kind.LITERAL:
            yield decompress(payload, op.result_bytes)
        case Kind.PATCH:
            yield decompress(payload, op.result_bytes, old)
        case Kind.ADD:
            yield add(old, decompress(payload, op.result_bytes))
        case Kind.PLANES:
            yield xor(old, from_planes(decompress(payload, op.result_bytes)))


def _exactly(delta: BinaryIO, size: int) -> bytes:
    data = delta.read(size) if size else b""
    if len(data) != size:
        raise InvalidInput("delta.truncated", "The delta ends too early.", hint="Transfer it again.")
    return data
