"""What a full outbox gives up, and how the gap is told. Pure: values in, values out.

Rules: telemetry goes before facts, the oldest goes first, and a number never disappears: the message is replaced by
a tombstone over its number, and tombstones that touch become one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from shared.wire.up import Dropped

__all__ = ["DROP_ORDER", "TOMBSTONE", "Tombstone", "merge"]

TOMBSTONE = "dropped"
DROP_ORDER: Sequence[frozenset[str]] = (
    frozenset({"heartbeat", "training"}),
    frozenset({"inventory"}),
    frozenset({"metrics", "window"}),
    frozenset({"health"}),
    frozenset({"event", "install"}),
)
"""Kinds by the order in which they give way; a kind of a later group is dropped only when the earlier ones are gone."""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """`count` messages given up, standing for every number from `first_seq` to `seq`."""

    first_seq: int
    seq: int
    dropped: Dropped


def merge(parts: Iterable[Tombstone]) -> Tombstone:
    """One tombstone in place of several that touch each other, given in order; at least one must be given."""
    first, *rest = parts
    kinds = dict(first.dropped.kinds)
    count, end = first.dropped.count, first.seq
    for part in rest:
        if part.first_seq != end + 1:
            raise ValueError(f"a tombstone starts at {part.first_seq} and not at {end + 1}")
        for kind, number in part.dropped.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + number
        count, end = count + part.dropped.count, part.seq
    return Tombstone(first_seq=first.first_seq, seq=end, dropped=Dropped(count=count, kinds=kinds))
