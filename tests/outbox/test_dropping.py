"""Tombstones: what a gap says."""

from __future__ import annotations

import pytest

from agent.outbox.dropping import DROP_ORDER, TOMBSTONE, Tombstone, merge
from shared.wire.up import BODIES, Dropped


def tombstone(first: int, last: int, **kinds: int) -> Tombstone:
    return Tombstone(first_seq=first, seq=last, dropped=Dropped(count=sum(kinds.values()), kinds=kinds))


def test_touching_tombstones_become_one_that_counts_all_of_them() -> None:
    whole = merge([tombstone(3, 4, heartbeat=2), tombstone(5, 5, event=1), tombstone(6, 8, heartbeat=3)])
    assert whole == tombstone(3, 8, heartbeat=5, event=1)


def test_tombstones_with_a_gap_between_them_are_never_merged() -> None:
    with pytest.raises(ValueError, match="starts at 5 and not at 4"):
        merge([tombstone(3, 3, heartbeat=1), tombstone(5, 5, heartbeat=1)])


def test_every_kind_of_message_can_give_way_and_has_one_place_in_the_order() -> None:
    places = [kind for kinds in DROP_ORDER for kind in kinds]
    assert sorted(places) == sorted(set(BODIES) - {TOMBSTONE})
