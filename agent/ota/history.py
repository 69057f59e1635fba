"""The last installations of a model on this device, for people: a bounded list in a durable file.

It is a convenience and decides nothing: a damaged file starts an empty history.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent.ota import sealed
from shared import limits
from shared.errors import NotFound, StorageFailure, TooLarge

__all__ = ["MAX_ENTRIES", "HistoryEntry", "append", "entries"]

MAX_ENTRIES = 50
_LIMIT = 256 * limits.KIB


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How one installation ended. `ended_s` is the device's clock, which may be wrong."""

    model: str
    version: int
    bundle_sha256: str
    assignment_counter: int
    state: str
    event: str
    reason_code: str = ""
    reason: str = ""
    active_version: int | None = None
    ended_s: float = 0.0


class _History(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: int = 1
    entries: list[HistoryEntry] = []


def entries(path: Path) -> list[HistoryEntry]:
    """The entries, oldest first."""
    try:
        return sealed.load(path, _History, limit=_LIMIT).entries
    except (NotFound, StorageFailure, TooLarge):
        return []


def append(path: Path, entry: HistoryEntry) -> None:
    """Add an entry and forget the oldest above the bound; the same ending twice in a row is one entry."""
    known = entries(path)
    if known and msgspec.structs.replace(known[-1], ended_s=entry.ended_s) == entry:
        return
    sealed.save(path, _History(entries=[*known, entry][-MAX_ENTRIES:]))
