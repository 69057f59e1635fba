"""The values that the outbox's front and its database exchange. Pure; imports no database."""

from __future__ import annotations

import msgspec

__all__ = ["Item", "Row", "State"]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be stored: its kind, when it was made, its encoded body."""

    kind: str
    created_s: float
    body: bytes


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message with its numbers."""

    first_seq: int
    seq: int
    kind: str
    created_s: float
    body: bytes


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of the outbox. `next_seq` is the number that the next message gets."""

    epoch: str
    next_seq: int = 1
    watermark: int = 0
    dropped_count: int = 0
    pending_count: int = 0
    pending_bytes: int = 0
