"""The sample buffer: encrypted, bounded, aged by a doubtful clock, whole after damage, gone after an erasure."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.training.ageing import aged
from agent.training.epoch import read_epoch
from agent.training.samples import Sample
from shared.errors import StorageFailure
from tests.training.kit import NOW_S, SPACE, Clock, buffer_at, sample

DAY_S = 86400.0


def datas(found: list[Sample]) -> set[bytes]:
    return {one.data for one in found}


def test_what_was_added_is_read_by_another_process(tmp_path: Path) -> None:
    given = [sample(number, number % 3) for number in range(30)]
    buffer_at(tmp_path / "s").add(given[:10])
    buffer_at(tmp_path / "s").add(given[10:])
    assert sorted(buffer_at(tmp_path / "s").read("digits", SPACE), key=lambda one: one.data) == given
    assert buffer_at(tmp_path / "s").read("other", SPACE) == []
    assert buffer_at(tmp_path / "s").read("digits", "1" * 16) == []


def test_nothing_readable_is_on_the_disk_and_only_the_agent_may_look(tmp_path: Path) -> None:
    secret = b"a face in the window"
    one = Sample(model="camera", version=1, space=SPACE, label=7, dtype="uint8", shape=[20], data=secret)
    buffer_at(tmp_path / "s").add([one])
    for path in (tmp_path / "s").iterdir():
        assert secret not in path.read_bytes()
        assert b"camera" not in path.read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_the_file_is_never_larger_than_its_bound(tmp_path: Path) -> None:
    limit = 64 * 1024
    for number in range(120):
        buffer_at(tmp_path / "s", max_bytes=limit, seed=number).add(
            [sample(number * 10 + at, at, size=2000) for at in range(10)]
        )
        assert (tmp_path / "s" / "samples").stat().st_size <= limit
    counts, kept = buffer_at(tmp_path / "s", max_bytes=limit).counts()
    assert {count.label for count in counts} == set(range(10))
    assert kept.samples >= 13
    assert sum(count.seen for count in counts) == 1200


def test_classes_have_their_own_bound_which_narrows_with_the_setting(tmp_path: Path) -> None:
    buffer_at(tmp_path / "s", per_class_count=20).add([sample(number, number % 2) for number in range(100)])
    assert [count.samples for count in buffer_at(tmp_path / "s", per_class_count=20).counts()[0]] == [20, 20]
    narrow = buffer_at(tmp_path / "s", per_class_count=5, max_count=8)
    assert narrow.counts()[1].samples == 8
    narrow.add([])
    assert buffer_at(tmp_path / "s").counts()[1].samples == 8


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 12), st.integers(4, 6000)),
        st.tuples(st.just("tend"), st.just(0), st.just(0)),
        st.tuples(st.just("erase"), st.just(0), st.just(0)),
        st.tuples(st.just("clock"), st.integers(-40, 40), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_whatever_happens_the_buffer_is_bounded_and_holds_only_what_it_may(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], seed: int
) -> None:
    folder, clock, number = tmp_path_factory.mktemp("s"), Clock(), 0
    may: dict[bytes, float] = {}
    for index, (step, count, size) in enumerate(steps):
        buffer = buffer_at(folder, clock, seed + index, max_bytes=64 * 1024, per_class_count=9, max_count=20)
        if step == "add":
            new = [sample(number + at, at % 3, size=size // 4 * 4) for at in range(count)]
            number += count
            assert buffer.add(new, epoch=read_epoch(folder)) is not None
            may |= {one.data: clock.at_s for one in new}
        elif step == "tend":
            buffer.add([], epoch=read_epoch(folder))
        elif step == "erase":
            buffer.erase()
            may = {}
        else:
            clock.at_s += count * DAY_S
        found = datas(buffer.read("digits", SPACE))
        assert found <= set(may)
        counts, kept = buffer.counts()
        assert (kept.samples, kept.lost) == (len(found), 0)
        assert len(found) <= 20
        assert all(one.samples <= 9 and one.seen >= one.samples for one in counts)
        assert kept.file_bytes <= 64 * 1024


# --- age ------------------------------------------------------------------------------------------------------------
def test_what_is_too_old_is_not_read_and_a_day_later_not_on_the_disk(tmp_path: Path) -> None:
    clock = Clock()
    buffer_at(tmp_path / "s", clock).add([sample(1)])
    clock.at_s += 20 * DAY_S
    buffer_at(tmp_path / "s", clock).add([sample(2)])
    before = (tmp_path / "s" / "samples").stat().st_size
    clock.at_s += 10 * DAY_S + 1
    assert datas(buffer_at(tmp_path / "s", clock).read("digits", SPACE)) == {sample(2).data}
    buffer_at(tmp_path / "s", clock).add([])
    assert (tmp_path / "s" / "samples").stat().st_size < before
    content = (tmp_path / "s" / "samples").read_bytes()
    buffer_at(tmp_path / "s", clock).add([])
    assert (tmp_path / "s" / "samples").read_bytes() == content, "tending wrote although there was nothing to do"


def test_a_clock_of_1970_neither_expires_samples_nor_dates_them(tmp_path: Path) -> None:
    clock = Clock()
    buffer_at(tmp_path / "s", clock).add([sample(1)])
    clock.at_s = 300.0
    buffer_at(tmp_path / "s", clock).add([sample(2)])
    assert len(buffer_at(tmp_path / "s", clock).read("digits", SPACE)) == 2
    clock.at_s = NOW_S + 29 * DAY_S
    buffer_at(tmp_path / "s", clock).add([])
    clock.at_s = NOW_S + 31 * DAY_S
    assert datas(buffer_at(tmp_path / "s", clock).read("digits", SPACE)) == {sample(2).data}
    clock.at_s = NOW_S + 60 * DAY_S
    assert buffer_at(tmp_path / "s", clock).read("digits", SPACE) == []


def test_a_time_in_the_future_becomes_now_and_stays_so_in_a_file_that_is_written_anew(tmp_path: Path) -> None:
    clock = Clock(NOW_S + 1000 * DAY_S)
    buffer_at(tmp_path / "s", clock).add([sample(1)])
    clock.at_s = NOW_S
    buffer_at(tmp_path / "s", clock).add([])
    with (tmp_path / "s" / "samples").open("ab") as file:
        file.write(b"torn")
    buffer_at(tmp_path / "s", clock).add([])
    clock.at_s = NOW_S + 31 * DAY_S
    assert buffer_at(tmp_path / "s", clock).read("digits", SPACE) == []


@given(st.dictionaries(st.integers(0, 50), st.floats(0, 4e9)), st.floats(0, 4e9))
def test_no_believable_clock_keeps_what_is_older_than_the_retention(times: dict[int, float], now_s: float) -> None:
    old, again = aged(times, now_s, 30 * DAY_S)
    assert not old & again
    if now_s < 1.7e9:
        assert not old | again
    if now_s > 1.8e9:
        assert all(now_s - at_s <= 30 * DAY_S for number, at_s in times.items() if number not in old | again)


# --- damage ---------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_costs_what_it_hit_and_nothing_is_decrypted_wrongly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("s")
    given_ = [sample(number, number % 2) for number in range(12)]
    for at in range(0, 12, 3):
        buffer_at(folder).add(given_[at : at + 3])
    file = folder / "samples"
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(24, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "zeros", "cut", "insert"]))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "zeros":
        content[at : at + 40] = bytes(len(content[at : at + 40]))
    elif kind == "cut":
        del content[at:]
    else:
        content[at:at] = data.draw(st.binary(min_size=1, max_size=40))
    file.write_bytes(bytes(content))
    left = buffer_at(folder).read("digits", SPACE)
    assert datas(left) <= datas(given_)
    assert len(left) >= (9 if kind != "cut" else 0)
    buffer_at(folder).add([sample(99)])
    again = buffer_at(folder).read("digits", SPACE)
    assert datas(again) == datas(left) | {sample(99).data}
    assert buffer_at(folder).counts()[1].lost <= 2


def test_a_lost_key_or_a_foreign_file_is_counted_and_begins_anew(tmp_path: Path) -> None:
    for name in ("key", "samples"):
        folder = tmp_path / name
        buffer_at(folder).add([sample(1)])
        (folder / name).write_bytes(os.urandom(500))
        assert buffer_at(folder).read("digits", SPACE) == []
        buffer_at(folder).add([sample(2)])
        assert datas(buffer_at(folder).read("digits", SPACE)) == {sample(2).data}
        assert buffer_at(folder).counts()[1].lost == 1


def test_a_record_moved_into_the_file_of_another_key_is_not_believed(tmp_path: Path) -> None:
    buffer_at(tmp_path / "a").add([sample(1)])
    buffer_at(tmp_path / "b").add([sample(2)])
    with (tmp_path / "a" / "samples").open("ab") as file:
        file.write((tmp_path / "b" / "samples").read_bytes()[24:])
    assert datas(buffer_at(tmp_path / "a").read("digits", SPACE)) == {sample(1).data}


# --- the disk -------------------------------------------------------------------------------------------------------
def test_a_disk_without_room_refuses_samples_and_keeps_what_it_has(tmp_path: Path) -> None:
    buffer_at(tmp_path / "s").add([sample(1)])
    with pytest.raises(StorageFailure) as caught:
        buffer_at(tmp_path / "s").add([sample(2)], min_free_bytes=1 << 60)
    assert caught.value.code == "samples.disk_full"
    buffer_at(tmp_path / "s").add([sample(3)], dropped=1)
    assert len(buffer_at(tmp_path / "s").read("digits", SPACE)) == 2
    assert buffer_at(tmp_path / "s").counts()[1].dropped == 1


def test_a_write_that_the_disk_breaks_off_leaves_no_half_record(tmp_path: Path) -> None:
    buffer_at(tmp_path / "s").add([sample(1)])
    size = (tmp_path / "s" / "samples").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
    try:
        with pytest.raises(StorageFailure):
            buffer_at(tmp_path / "s").add([sample(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "s" / "samples").stat().st_size == size
    assert buffer_at(tmp_path / "s").counts()[1].lost == 0


# --- erasure --------------------------------------------------------------------------------------------------------
def test_after_an_erasure_even_a_copy_of_the_file_cannot_be_read(tmp_path: Path) -> None:
    buffer_at(tmp_path / "s").add([sample(1)])
    copy = (tmp_path / "s" / "samples").read_bytes()
    buffer_at(tmp_path / "s").erase()
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["epoch"]
    (tmp_path / "s" / "samples").write_bytes(copy)
    assert buffer_at(tmp_path / "s").read("digits", SPACE) == []
    epoch = read_epoch(tmp_path / "s")
    buffer_at(tmp_path / "s").add([sample(2)], epoch=epoch)
    assert datas(buffer_at(tmp_path / "s").read("digits", SPACE)) == {sample(2).data}


def test_what_was_on_its_way_before_an_erasure_is_not_kept_after_it(tmp_path: Path) -> None:
    before = read_epoch(tmp_path / "s")
    buffer_at(tmp_path / "s").erase()
    assert buffer_at(tmp_path / "s").add([sample(1)], epoch=before) is None
    assert buffer_at(tmp_path / "s").counts()[1].samples == 0
