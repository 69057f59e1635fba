"""Making a delta between two bundle files: the same files always give the same bytes.

Rules: each part is tried in every way that suits it, roughly first; the most promising are done in full and the
smallest wins. Before anything is handed out the delta is applied and must give the new bundle exactly
(`delta.not_exact`). Memory is bounded by the size of a part, whatever the size of the bundles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.bundle.archive import BundleReader, open_bundle
from shared.bundle.layout import Span, spans
from shared.delta.apply import apply_delta
from shared.delta.arithmetic import subtract, to_planes, xor
from shared.delta.codec import compress
from shared.delta.format import Head, Kind, Op, Pair, pack_head, pack_op
from shared.delta.plan import Part, plan
from shared.delta.source import ArchiveFile
from shared.errors import InternalError, SkerryError

__all__ = ["encode_delta"]

_ROUGH_LEVEL = 12  # lower ones overlook most of a long dictionary
_BEST_LEVEL = 19
_PATIENT_BYTES = 32 << 20  # what is more is done roughly
_CLOSE_PERCENT = 115
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class _Way:
    kind: Kind
    data: bytes
    dictionary: bytes | None = None


def encode_delta(old: Path, new: Path, out: BinaryIO) -> Pair:
    """Write the delta from bundle `old` to bundle `new` to `out` (readable and seekable); which pair it is.

    Errors: `bundle.*`, `storage.*`, `delta.not_exact`.
    """
    parts = plan(_spans(old), _spans(new))
    with ArchiveFile(old) as source, ArchiveFile(new) as target:
        pair = Pair(
            from_sha256=_digest(source),
            from_bytes=source.size,
            to_sha256=_digest(target),
            to_bytes=target.size,
        )
        work = sum(part.size for part in parts if not part.same)
        level = _BEST_LEVEL if work <= _PATIENT_BYTES else _ROUGH_LEVEL
        out.write(pack_head(Head(pair, len(parts))))
        for part in parts:
            for block in _operation(part, source, target, level):
                out.write(block)
        _prove(out, source, pair)
    return pair


def _spans(path: Path) -> list[Span]:
    with open_bundle(path) as stream:
        reader = BundleReader(stream)
        files = reader.manifest().files
    return spans(len(reader.manifest_bytes), files)


def _digest(archive: ArchiveFile) -> str:
    digest = hashlib.sha256()
    for at in range(0, archive.size, _BLOCK):
        digest.update(archive.read(at, min(_BLOCK, archive.size - at)))
    return digest.hexdigest()


def _operation(part: Part, source: ArchiveFile, target: ArchiveFile, level: int) -> Iterator[bytes]:
    copy = Op(Kind.COPY, part.source, part.source_size, part.size, 0)
    if part.same:
        yield pack_op(copy)
        return
    new = target.read(part.at, part.size)
    old = source.read(part.source, part.source_size) if part.source_size else None
    if old == new:
        yield pack_op(copy)
        return
    way, payload = _smallest(_ways(new, old, aligned=part.aligned), level)
    reads = (0, 0) if way.kind is Kind.LITERAL else (part.source, part.source_size)
    yield pack_op(Op(way.kind, *reads, part.size, len(payload)))
    yield payload


def _ways(new: bytes, old: bytes | None, *, aligned: bool) -> Iterator[_Way]:
    yield _Way(Kind.LITERAL, new)
    if old is None:
        return
    yield _Way(Kind.PATCH, new, old)
    if aligned:
        yield _Way(Kind.ADD, subtract(new, old))
        yield _Way(Kind.PLANES, to_planes(xor(new, old)))


def _smallest(ways: Iterator[_Way], level: int) -> tuple[_Way, bytes]:
    found = [(way, compress(way.data, _ROUGH_LEVEL, way.dictionary)) for way in ways]
    if level != _ROUGH_LEVEL:
        close = min(len(payload) for _way, payload in found) * _CLOSE_PERCENT // 100
        chosen = [way for way, payload in found if len(payload) <= close]
        found = [(way, compress(way.data, level, way.dictionary)) for way in chosen]
    return min(found, key=lambda one: len(one[1]))


def _prove(out: BinaryIO, source: ArchiveFile, pair: Pair) -> None:
    out.seek(0)
    try:
        apply_delta(out, source, lambda _block: None, pair)
    except SkerryError as error:
        raise InternalError("delta.not_exact", f"The delta does not give the new bundle: {error.message}") from error
