"""Which part of the new bundle is made from which part of the old one. Pure.

A file is paired with the old file of the same digest, else of the same path, else with one of the same role that
nothing else was paired with. What equals something old byte for byte is copied; the rest is cut into parts that fit
into memory, each with the stretch of the old file where its counterpart is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared import limits
from shared.bundle.layout import END, Span
from shared.bundle.manifest import FileEntry

__all__ = ["Part", "plan"]

_MARGIN_BYTES = (limits.MAX_DELTA_SOURCE_BYTES - limits.MAX_DELTA_PART_BYTES) // 2


@dataclass(frozen=True, slots=True)
class Part:
    """`size` bytes at `at` of the new bundle, made from `source_size` bytes at `source` of the old (0: from nothing).

    same: they are known to be equal. aligned: both are equally long and correspond position by position.
    """

    at: int
    size: int
    source: int = 0
    source_size: int = 0
    same: bool = False
    aligned: bool = False


def plan(old: Sequence[Span], new: Sequence[Span]) -> list[Part]:
    """Parts that give the new bundle in order, without gaps, its end included."""
    parts = [*_between(new[0], old[0])]
    for span, pair in zip(new[1:], _paired(old[1:], new[1:]), strict=True):
        parts += _file(span, pair)
    parts.append(Part(new[-1].end, len(END), old[-1].end, len(END), same=True, aligned=True))
    return _joined(parts)


def _paired(old: Sequence[Span], new: Sequence[Span]) -> list[Span | None]:
    """For each new file its old one."""
    by_digest = {_entry(span).sha256: span for span in reversed(old)}
    by_path = {_entry(span).path: span for span in old}
    free = {_entry(span).path: span for span in old}
    found: list[Span | None] = []
    for span in new:
        entry = _entry(span)
        pair = by_digest.get(entry.sha256) or by_path.get(entry.path)
        found.append(pair)
        if pair is not None:
            free.pop(_entry(pair).path, None)
    for index, span in enumerate(new):
        if found[index] is None:
            alike = next((one for one in free.values() if _entry(one).role == _entry(span).role), None)
            if alike is not None:
                found[index] = free.pop(_entry(alike).path)
    return found


def _entry(span: Span) -> FileEntry:
    if span.entry is None:
        raise ValueError("the manifest is not paired")
    return span.entry


def _file(span: Span, pair: Span | None) -> Iterator[Part]:
    if pair is None:
        yield from _cut(span.start, span.end - span.start, None, 0)
        return
    entry, other = _entry(span), _entry(pair)
    if entry.sha256 == other.sha256 and entry.bytes == other.bytes:
        if entry.path != other.path:
            yield Part(span.start, span.content - span.start, pair.start, pair.content - pair.start, aligned=True)
            if entry.bytes:
                yield Part(span.content, span.end - span.content, pair.content, pair.end - pair.content, same=True)
        else:
            yield Part(span.start, span.end - span.start, pair.start, pair.end - pair.start, same=True)
        return
    yield from _between(span, pair)


def _between(span: Span, pair: Span) -> Iterator[Part]:
    """Another content, header and padding included."""
    yield from _cut(span.start, span.end - span.start, pair.start, pair.end - pair.start)


def _cut(at: int, size: int, source: int | None, source_size: int) -> Iterator[Part]:
    step = limits.MAX_DELTA_PART_BYTES
    for offset in range(0, size, step):
        length = min(step, size - offset)
        if source is None:
            yield Part(at + offset, length)
        elif size == source_size:
            yield Part(at + offset, length, source + offset, length, aligned=True)
        else:
            first = max(0, min(offset, source_size) - _MARGIN_BYTES)
            last = min(source_size, first + limits.MAX_DELTA_SOURCE_BYTES)
            yield Part(at + offset, length, source + first, last - first)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Copies that go on where the one before ended become one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last and last.same and part.same and last.source + last.source_size == part.source:
            found[-1] = Part(last.at, last.size + part.size, last.source, last.source_size + part.size, same=True)
        else:
            found.append(part)
    return found
