"""Conditional and range requests for content-addressed bytes (RFC 9110 sections 13 and 14). Pure.

One range is answered with 206; several at once are answered with the whole blob, as the standard allows. An entity
tag is strong and is the digest itself, so `If-Range` with any other tag, or with a date, gives the whole blob.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import InvalidInput

__all__ = ["Slice", "entity_tag", "matches", "select_slice"]

_RANGE = re.compile(r"^\s*bytes\s*=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{1,18})?|-\s*([0-9]{1,18}))\s*\Z", re.IGNORECASE)
_MAX_HEADER_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Slice:
    """Offsets `first` to `last`, both included, of a blob of `size` bytes; `partial`: the answer is a 206."""

    first: int
    last: int
    size: int
    partial: bool

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """The value of the Content-Range header."""
        return f"bytes {self.first}-{self.last}/{self.size}"


def entity_tag(sha256: str) -> str:
    """The strong entity tag of a blob."""
    return f'"{sha256}"'


def matches(header: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this tag (weak comparison)."""
    if header is None or len(header) > _MAX_HEADER_CHARS:
        return False
    names = [name.strip().removeprefix("W/") for name in header.split(",")]
    return tag in names or "*" in names


def select_slice(range_header: str | None, if_range: str | None, size: int, tag: str) -> Slice:
    """What to send for these headers; a range beyond the end is `InvalidInput` (`blob.range`, HTTP 416)."""
    whole = Slice(0, size - 1, size, partial=False)
    if range_header is None or len(range_header) > _MAX_HEADER_CHARS:
        return whole
    if if_range is not None and if_range.strip() != tag:
        return whole
    found = _RANGE.match(range_header)
    if found is None:
        return whole  # several ranges, another unit or not a range at all: the header is to be ignored
    first, last = _offsets(found, size)
    if found[2] is not None and int(found[2]) < int(found[1]):
        return whole  # backwards: not a range
    if first > last:
        raise _beyond(size)
    return Slice(first, last, size, partial=True)


def _offsets(found: re.Match[str], size: int) -> tuple[int, int]:
    if found[3] is not None:
        return max(0, size - int(found[3])), size - 1
    last = size - 1 if found[2] is None else min(int(found[2]), size - 1)
    return int(found[1]), last


def _beyond(size: int) -> InvalidInput:
    return InvalidInput(
        "blob.range",
        f"The range starts beyond the end; the file has {size} bytes.",
        hint="Start the download again from its beginning.",
        detail={"size": size},
    )
