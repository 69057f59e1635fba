"""Rates, downloads, windows, times and clocks: nothing exposes more devices than they allow."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rollouts.counts import Counts, DeviceState, GroupCounts
from hub.rollouts.plan import Mode
from hub.rollouts.state import (
    Assign,
    ChangeKind,
    GroupStatus,
    Retry,
    Status,
    Switch,
)
from hub.rollouts.tick import tick
from tests.rollouts.fleet import (
    CREATED_S,
    EXPOSED,
    Fleet,
    group,
    kinds,
    plan,
    status,
)

HOUR = 3600


# --- limits ----------------------------------------------------------------------------------------------------------
def test_the_rate_is_kept_and_unused_time_is_not_made_up_for() -> None:
    fleet = Fleet.of(plan(rate={"per_minute": 6}, groups=[{"name": "all", "percent": 100}]), 100)
    fleet.tick()
    assert len(fleet.in_state(*EXPOSED)) == 0
    fleet.wait(60, step_s=5)
    assert len(fleet.in_state(*EXPOSED)) == 6
    fleet.tick(250)
    assert len(fleet.in_state(*EXPOSED)) == 12
    fleet.wait(120, step_s=7)
    assert 22 <= len(fleet.in_state(*EXPOSED)) <= 24


def test_the_rate_grows_with_successes_up_to_its_cap() -> None:
    rate = {"per_minute": 10, "factor": 2, "every": 10, "cap": 40, "count": "succeeded"}
    fleet = Fleet.of(plan(rate=rate, groups=[{"name": "all", "percent": 100}]), 1000)
    fleet.tick()
    given = []
    for _ in range(6):
        before = len(fleet.in_state(*EXPOSED))
        fleet.tick(60)
        given.append(len(fleet.in_state(*EXPOSED)) - before)
        fleet.finish()
    assert given == [10, 20, 40, 40, 40, 40]


def test_concurrent_downloads_are_limited_and_absent_devices_do_not_block_them() -> None:
    fleet = Fleet.of(plan(max_concurrent_downloads=4, groups=[{"name": "all", "percent": 100}]), 100)
    fleet.tick()
    assert len(fleet.in_state(*EXPOSED)) == 4
    for device in fleet.in_state(DeviceState.ASSIGNED)[:2]:
        fleet.report(device, DeviceState.DOWNLOADING)
    fleet.tick(60)
    assert len(fleet.in_state(*EXPOSED)) == 4
    assert fleet.rollout.progress.waits_for is not None
    assert fleet.rollout.progress.waits_for.code == "wait.downloads"
    fleet.wait(120)  # two of the four never answered
    assert len(fleet.in_state(*EXPOSED)) == 6


def test_devices_that_come_back_download_beyond_the_limit_and_nothing_more_is_assigned_meanwhile() -> None:
    fleet = Fleet.of(plan(max_concurrent_downloads=4, groups=[{"name": "all", "percent": 100}]), 100)
    fleet.tick()
    for _ in range(4):
        fleet.wait(180)  # nobody is there
    away = fleet.in_state(DeviceState.ASSIGNED)
    assert len(away) > 8
    for device in away:
        fleet.report(device, DeviceState.DOWNLOADING)
    fleet.wait(180)
    assert len(fleet.in_state(*EXPOSED)) == len(away)
    assert fleet.rollout.progress.waits_for is not None
    assert fleet.rollout.progress.waits_for.numbers["downloads"] == len(away)
    for device in away[: len(away) - 2]:
        fleet.report(device, DeviceState.SUCCEEDED)
    fleet.tick(5)
    assert len(fleet.in_state(*EXPOSED)) == len(away) + 2


def test_a_batch_bounds_one_tick_and_the_next_one_goes_on() -> None:
    fleet = Fleet.of(plan(groups=[{"name": "all", "percent": 100}]), 100)
    assert fleet.tick(batch=30).actions == (Assign(group_no=0, limit=30, mode=Mode.LIVE),)
    fleet.tick(batch=30)
    fleet.tick(batch=30)
    assert fleet.tick(batch=30).actions == (Assign(group_no=0, limit=10, mode=Mode.LIVE),)
    assert fleet.tick(batch=30).actions == ()


def test_held_devices_are_left_alone_and_not_counted() -> None:
    fleet = Fleet.of(plan(), 10, 0)
    for device in fleet.devices[:4]:
        device.held = True
    fleet.tick()
    assert len(fleet.in_state(DeviceState.ASSIGNED)) == 6
    fleet.finish()
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.BAKING


# --- windows and times -----------------------------------------------------------------------------------------------
def test_outside_the_window_nothing_is_assigned_and_the_next_opening_is_named() -> None:
    window = {"cron": "0 2 * * *", "duration_s": "1h", "timezone": "Europe/Paris"}
    fleet = Fleet.of(plan(window=window), 10, 10)  # 2027-01-15 08:00 UTC
    fleet.tick()
    waits = fleet.rollout.progress.waits_for
    assert not fleet.in_state(*EXPOSED)
    assert waits is not None
    assert waits.code == "wait.window"
    opens_s = waits.numbers["opens_s"]
    assert opens_s == CREATED_S + 17 * HOUR
    fleet.now_s = opens_s - 60
    fleet.tick()
    fleet.tick(59)
    assert not fleet.in_state(*EXPOSED)
    fleet.tick(1)
    assert len(fleet.in_state(DeviceState.ASSIGNED)) == 10


@pytest.mark.parametrize(
    ("night", "opens", "closes"),
    [
        ("2027-03-27T22:00:00+00:00", "2027-03-28T01:00:00+00:00", "2027-03-28T02:00:00+00:00"),  # 02:00 does not exist
        ("2027-10-30T22:00:00+00:00", "2027-10-31T00:00:00+00:00", "2027-10-31T01:00:00+00:00"),  # 02:00 comes twice
    ],
)
def test_a_window_at_two_on_the_nights_on_which_the_clocks_change(night: str, opens: str, closes: str) -> None:
    window = {"cron": "0 2 * * *", "duration_s": "1h", "timezone": "Europe/Paris"}
    fleet = Fleet.of(plan(window=window, rate={"per_minute": 1}, groups=[{"name": "all", "percent": 100}]), 1000)
    fleet.now_s = int(datetime.fromisoformat(night).timestamp())
    assigned_at = [fleet.now_s for outcome in (fleet.tick(60) for _ in range(7 * 60)) if outcome.actions]
    assert assigned_at[0] == int(datetime.fromisoformat(opens).timestamp())
    assert assigned_at[-1] == int(datetime.fromisoformat(closes).timestamp()) - 60
    assert len(assigned_at) == 60


def test_with_device_zones_only_devices_whose_window_is_open_are_assigned() -> None:
    window = {"cron": "0 10 * * *", "duration_s": "1h", "timezone": "device"}
    fleet = Fleet.of(plan(window=window), 10, 0)  # 08:00 UTC is 10:00 in Helsinki
    for device in fleet.devices[:4]:
        device.zone = "Europe/Helsinki"
    for device in fleet.devices[4:]:
        device.zone = "Europe/Paris"
    assert fleet.tick().actions == (Assign(group_no=0, limit=4, mode=Mode.LIVE, zones=("Europe/Helsinki",)),)


def test_nothing_happens_before_the_start_time() -> None:
    fleet = Fleet.of(plan(start_at="2027-01-15T09:00:00+00:00"), 10, 0)
    fleet.wait(HOUR - 60)
    assert status(fleet) is Status.PLANNED
    fleet.wait(120)
    assert len(fleet.in_state(*EXPOSED)) == 10


@pytest.mark.parametrize(
    ("at_end", "end"),
    [("stop_assigning", Status.FINISHED), ("abort", Status.ABORTED), ("roll_back", Status.ROLLED_BACK)],
)
def test_the_end_time_does_what_the_plan_says(at_end: str, end: Status) -> None:
    fleet = Fleet.of(plan(at_end=at_end, end_at="2027-01-15T08:30:00+00:00"), 10, 40)
    fleet.tick()
    fleet.finish(at_most=7)
    fleet.wait(1920)
    if at_end == "stop_assigning":
        assert status(fleet) is Status.ENDING
        fleet.finish()
    for device in fleet.in_state(DeviceState.ROLLING_BACK):
        fleet.report(device, DeviceState.ROLLED_BACK)
    fleet.wait(120)
    assert status(fleet) is end
    assert len(fleet.in_state(DeviceState.SUCCEEDED)) == {"stop_assigning": 10, "abort": 7, "roll_back": 0}[at_end]
    assert not fleet.in_state(*EXPOSED, group_no=1)


def test_devices_that_are_away_do_not_keep_a_rollout_from_ending() -> None:
    fleet = Fleet.of(plan(end_at="2027-01-15T10:00:00+00:00"), 10, 40)
    fleet.tick()
    fleet.finish(at_most=7)
    fleet.wait(2 * HOUR + 60)
    assert status(fleet) is Status.FINISHED
    assert len(fleet.in_state(DeviceState.ASSIGNED)) == 3


# --- clocks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("to_s", [0, 86400, CREATED_S - 10**7, CREATED_S + 10**7, 4 * 10**9])
def test_a_clock_that_jumps_exposes_nobody_and_ends_no_bake_time(to_s: int) -> None:
    fleet = Fleet.of(plan(), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.tick(5)
    fleet.now_s = to_s
    outcome = fleet.tick()
    assert outcome.actions == ()
    assert kinds(outcome) == [ChangeKind.CLOCK_MOVED]
    fleet.wait(540)
    assert not fleet.in_state(*EXPOSED, group_no=1)


def test_before_its_creation_a_rollout_stands_still_and_goes_on_when_the_clock_is_right() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    fleet.now_s = 1000
    fleet.wait(HOUR)
    assert status(fleet) is Status.PLANNED
    waits = fleet.rollout.progress.waits_for
    assert waits is not None
    assert waits.code == "wait.clock_wrong"
    fleet.now_s = CREATED_S + 10
    fleet.wait(120)
    assert len(fleet.in_state(*EXPOSED)) == 5


def test_a_clock_that_is_ahead_for_a_moment_ends_no_rollout() -> None:
    fleet = Fleet.of(plan(at_end="roll_back", end_at="2027-06-01T00:00:00+00:00"), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.now_s += 365 * 86400
    fleet.wait(500, step_s=5)
    assert status(fleet) is Status.RUNNING
    fleet.now_s -= 365 * 86400
    fleet.wait(3600)
    assert status(fleet) is Status.RUNNING
    fleet.now_s += 365 * 86400
    fleet.wait(720)
    assert status(fleet) is Status.ROLLING_BACK


def test_silence_is_counted_in_engine_time() -> None:
    fleet = Fleet.of(plan(), 5, 0)
    fleet.tick()
    for device in fleet.devices:
        fleet.report(device, DeviceState.INSTALLING)
    fleet.now_s += 10**6
    fleet.tick()
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING


# --- whatever the store says -----------------------------------------------------------------------------------------
NUMBER = st.integers(0, 300)
COUNTS = st.builds(GroupCounts, **{name: NUMBER for name in GroupCounts.__struct_fields__ if name != "waiting_by_zone"})


@settings(deadline=None)
@given(counts=st.lists(st.lists(COUNTS, min_size=2, max_size=2), min_size=1, max_size=12), retries=st.integers(1, 3))
def test_numbers_that_do_not_add_up_never_expose_more_than_wait(counts: list[list[GroupCounts]], retries: int) -> None:
    retry = {"attempts": retries, "backoff_s": 60}
    fleet = Fleet.of(plan(retry=retry, gates=[], max_concurrent_downloads=50, on_failure="pause"), 0, 0)
    for second, groups in enumerate(counts):
        outcome = tick(fleet.rollout, Counts(groups=tuple(groups)), CREATED_S + second, batch=100)
        fleet.rollout = msgspec.structs.replace(fleet.rollout, progress=outcome.progress)
        given_devices = 0
        for action in outcome.actions:
            if isinstance(action, Assign):
                assert 0 < action.limit <= groups[action.group_no].assignable
            if isinstance(action, Assign | Retry | Switch):
                given_devices += action.limit
        busy = sum(group.starting + group.downloading for group in groups)
        assert given_devices <= max(0, 50 - busy)
