"""Which samples stay: a uniform sample by class, within the bounds, whatever comes."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from agent.training.reservoir import ClassKey, Reservoir

KEYS: list[ClassKey] = [("digits", "0" * 16, label) for label in range(3)]


def reservoir(seed: int = 1, per_class: int = 10, count: int = 20, size: int = 1000) -> Reservoir:
    return Reservoir(per_class_count=per_class, max_count=count, max_bytes=size, randrange=Random(seed).randrange)


def test_each_of_a_class_is_kept_with_the_same_chance() -> None:
    kept: Counter[int] = Counter()
    for seed in range(2000):
        held: set[int] = set()
        found = reservoir(seed, per_class=5)
        for number in range(25):
            taken, gone = found.offer(KEYS[0], number, 1)
            held = (held | {number} if taken else held) - set(gone)
        assert len(held) == 5
        kept.update(held)
    # 400 of 2,000 expected for each of the 25; five deviations are 90
    assert all(310 < kept[number] < 490 for number in range(25)), kept


def test_a_rare_class_is_not_pushed_out_by_a_frequent_one() -> None:
    found = reservoir(per_class=100, count=20)
    for number in range(6):
        found.offer(KEYS[1], number, 1)
    for number in range(6, 5000):
        found.offer(KEYS[0], number, 1)
    assert dict(found.counts()) == {KEYS[0]: 14, KEYS[1]: 6}


def test_what_is_too_old_is_forgotten_in_proportion() -> None:
    found = reservoir(per_class=10, count=100)
    held: set[int] = set()
    for number in range(1000):
        taken, gone = found.offer(KEYS[0], number, 1)
        held = (held | {number} if taken else held) - set(gone)
    found.expire(set(sorted(held)[:5]))
    assert (len(found), found.seen[KEYS[0]]) == (5, 500)
    found.expire(held)
    assert (len(found), found.seen, found.bytes) == (0, {}, 0)


def test_one_that_is_larger_than_all_room_is_refused_and_pushes_nothing_out() -> None:
    found = reservoir(size=10)
    found.offer(KEYS[0], 1, 5)
    assert found.offer(KEYS[1], 2, 11) == (False, [])
    assert len(found) == 1


OFFERS = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 120), st.booleans()), max_size=150)


@given(OFFERS, st.integers(0, 1000))
def test_bounds_hold_after_every_offer_and_every_expiry(offers: list[tuple[ClassKey, int, bool]], seed: int) -> None:
    found, held = reservoir(seed, size=300), dict[int, tuple[ClassKey, int]]()
    for number, (key, size, expire) in enumerate(offers):
        taken, gone = found.offer(key, number, size)
        for other in gone:
            del held[other]
        if taken:
            held[number] = (key, size)
        if expire:
            old = set(sorted(held)[: len(held) // 3])
            found.expire(old)
            held = {other: what for other, what in held.items() if other not in old}
        assert len(found) == len(held) <= 20
        assert found.bytes == sum(size for _, size in held.values()) <= 300
        assert dict(found.counts()) == Counter(key for key, _ in held.values())
        assert all(count <= 10 for _, count in found.counts())
        assert all(found.seen[key] >= count for key, count in found.counts())


@given(OFFERS)
def test_narrower_bounds_hold_from_the_next_start(offers: list[tuple[ClassKey, int, bool]]) -> None:
    found = reservoir(per_class=3, count=5, size=200)
    for number, (key, size, _) in enumerate(offers):
        found.load(key, number, size)
    gone = found.fit()
    assert len(set(gone)) == len(gone) == len(offers) - len(found)
    assert len(found) <= 5
    assert found.bytes <= 200
    assert all(count <= 3 for _, count in found.counts())
