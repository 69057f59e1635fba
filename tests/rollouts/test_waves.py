"""Waves: one after the other, each only after the one before has spoken for the version; and what a tick leaves."""

from __future__ import annotations

import msgspec
import pytest

from hub.rollouts.counts import Counts, DeviceState, GroupCounts
from hub.rollouts.judging import has_staged, has_succeeded
from hub.rollouts.plan import Group, Mode
from hub.rollouts.state import (
    Assign,
    ChangeKind,
    GroupStatus,
    Status,
    Tick,
)
from hub.rollouts.tick import tick
from shared.errors import InternalError
from tests.rollouts.fleet import (
    CREATED_S,
    EXPOSED,
    Fleet,
    group,
    kinds,
    plan,
    reason_of,
    status,
    waits_for,
)

HOUR = 3600
ERRORS = {"metric": "error_rate", "operator": "<=", "threshold": "5%", "min_sample": 20}


# --- waves -----------------------------------------------------------------------------------------------------------
def test_the_first_tick_starts_the_first_group_and_assigns_it() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    outcome = fleet.tick()
    assert outcome.actions == (Assign(group_no=0, limit=5, mode=Mode.LIVE),)
    assert kinds(outcome) == [ChangeKind.STARTED, ChangeKind.GROUP_STARTED]
    assert not fleet.in_state(*EXPOSED, group_no=1)


def test_the_next_group_begins_after_success_and_bake_time() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.tick(10)
    assert group(fleet, 0) is GroupStatus.BAKING
    fleet.wait(540)
    assert not fleet.in_state(*EXPOSED, group_no=1)
    fleet.wait(60)
    assert group(fleet, 0) is GroupStatus.PASSED
    assert len(fleet.in_state(DeviceState.ASSIGNED, group_no=1)) == 45


def test_all_groups_passed_is_kept_for_devices_that_join_later_or_finished() -> None:
    for keep, end in ((True, Status.KEEPING), (False, Status.FINISHED)):
        fleet = Fleet.of(plan(allow_new_devices=keep), 5, 45)
        for _ in range(60):
            fleet.tick(60)
            fleet.finish()
        assert status(fleet) is end
        assert len(fleet.in_state(DeviceState.SUCCEEDED)) == 50


def test_a_device_that_joins_a_kept_rollout_gets_the_version() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    for _ in range(60):
        fleet.tick(60)
        fleet.finish()
    fleet.devices[7].state = DeviceState.WAITING
    assert fleet.tick(5).actions == (Assign(group_no=1, limit=1, mode=Mode.LIVE),)


def test_success_needs_the_share_of_all_members_not_only_of_those_that_answered() -> None:
    fleet = Fleet.of(plan(), 10, 0)
    fleet.tick()
    fleet.finish(at_most=7)
    fleet.wait(2 * HOUR)
    assert group(fleet, 0) is GroupStatus.RUNNING
    fleet.finish(at_most=1)
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.BAKING


def test_a_group_does_not_succeed_below_its_minimum_sample() -> None:
    fleet = Fleet.of(plan(groups=[{"name": "a", "percent": 100, "success_percent": 10, "min_sample": 5}]), 10)
    fleet.tick()
    fleet.finish(at_most=4)
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.RUNNING
    fleet.finish(at_most=1)
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.BAKING


def test_a_leading_group_with_nobody_waits_instead_of_letting_everybody_through() -> None:
    fleet = Fleet.of(plan(), 0, 45)
    fleet.wait(HOUR)
    assert not fleet.in_state(*EXPOSED)
    assert waits_for(fleet) == "group.nobody"


def test_an_empty_group_after_one_that_spoke_is_passed() -> None:
    groups = [{"name": "a", "percent": 10}, {"name": "b", "percent": 20}, {"name": "c", "percent": 100}]
    fleet = Fleet.of(plan(groups=groups), 5, 0, 10)
    fleet.tick()
    fleet.finish()
    fleet.wait(700)
    assert group(fleet, 1) is GroupStatus.PASSED
    assert fleet.in_state(DeviceState.ASSIGNED, group_no=2)


# --- silence ---------------------------------------------------------------------------------------------------------
def test_half_a_fleet_offline_for_a_week_stalls_and_goes_on_when_it_comes_back() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    fleet.finish(at_most=5)
    ticks = fleet.wait(7 * 86400, step_s=300)
    assert group(fleet, 0) is GroupStatus.RUNNING
    assert status(fleet) is Status.RUNNING
    assert waits_for(fleet) == "group.stalled"
    assert kinds(*ticks).count(ChangeKind.GROUP_STALLED) == 1
    fleet.finish()
    fleet.wait(900)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_offline_devices_can_be_left_out_of_the_count() -> None:
    fleet = Fleet.of(plan(each_group={"success_percent": 90, "error_percent": 10, "observe_s": HOUR,
                                      "min_sample": 3, "count_unreached": False}), 10, 10)  # fmt: skip
    fleet.tick()
    fleet.finish(at_most=5)
    fleet.wait(HOUR - 300)
    assert group(fleet, 0) is GroupStatus.RUNNING
    fleet.wait(600)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_a_device_that_took_it_up_and_went_silent_is_an_error() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    for device in fleet.in_state(DeviceState.ASSIGNED)[:3]:
        fleet.report(device, DeviceState.INSTALLING)
    fleet.finish(group_no=0, at_most=0)
    for device in fleet.in_state(DeviceState.ASSIGNED):
        fleet.report(device, DeviceState.SUCCEEDED)
    fleet.wait(HOUR + 300)
    assert status(fleet) in (Status.ROLLING_BACK, Status.ROLLED_BACK)
    assert reason_of(fleet) == "group.error_rate"


def test_a_device_that_vanished_after_its_success_counts_against_it() -> None:
    wave = Group(name="all", percent_bp=10_000, success_bp=9000, min_sample=10)
    assert has_succeeded(wave, GroupCounts(succeeded=10, vanished=1))
    assert not has_succeeded(wave, GroupCounts(succeeded=10, vanished=2))


def test_devices_that_went_on_from_staging_count_as_prepared() -> None:
    wave = Group(name="all", percent_bp=10_000, success_bp=9000)
    assert has_staged(wave, GroupCounts(staged=4, installing=3, succeeded=2, assigned=1))
    assert not has_staged(wave, GroupCounts(staged=4, installing=2, succeeded=2, assigned=2))


def test_with_a_window_a_device_that_waits_for_it_is_not_silent() -> None:
    window = {"cron": "0 2 * * *", "duration_s": "1h", "timezone": "device"}
    fleet = Fleet.of(plan(window=window), 10, 10)
    fleet.tick()
    for device in fleet.in_state(DeviceState.ASSIGNED):
        fleet.report(device, DeviceState.STAGED)
    fleet.wait(24 * HOUR, step_s=300)
    assert status(fleet) is Status.RUNNING
    fleet.wait(5 * HOUR, step_s=300)
    assert status(fleet) is not Status.RUNNING


# --- supersession ----------------------------------------------------------------------------------------------------
def test_a_rollout_of_which_every_device_was_taken_ends_by_itself() -> None:
    fleet = Fleet.of(plan(), 5, 5)
    fleet.tick()
    for device in fleet.devices:
        fleet.report(device, DeviceState.SUPERSEDED)
    fleet.wait(120)
    assert status(fleet) is Status.ABORTED
    assert reason_of(fleet) == "rollout.superseded"


def test_a_kept_rollout_of_which_every_device_was_taken_is_finished() -> None:
    fleet = Fleet.of(plan(), 5, 5)
    for _ in range(60):
        fleet.tick(60)
        fleet.finish()
    for device in fleet.devices[1:]:
        fleet.report(device, DeviceState.SUPERSEDED)
    fleet.tick(5)
    assert status(fleet) is Status.KEEPING
    fleet.report(fleet.devices[0], DeviceState.SUPERSEDED)
    fleet.tick(5)
    assert status(fleet) is Status.FINISHED


def test_when_only_the_canaries_were_taken_the_next_group_does_not_begin() -> None:
    fleet = Fleet.of(plan(), 5, 5)
    fleet.tick()
    for device in fleet.of_group(0):
        fleet.report(device, DeviceState.SUPERSEDED)
    fleet.wait(2 * HOUR)
    assert not fleet.in_state(*EXPOSED)
    assert waits_for(fleet) == "group.nobody"


# --- form ------------------------------------------------------------------------------------------------------------
def test_the_revision_grows_exactly_when_something_changed() -> None:
    fleet = Fleet.of(plan(), 5, 0)
    assert fleet.tick().progress.revision == 1
    assert fleet.tick().progress.revision == 2  # it now waits for its devices
    assert fleet.tick().progress.revision == 2
    assert fleet.tick(1).progress.revision == 3


def test_counts_that_do_not_fit_the_plan_are_a_defect() -> None:
    fleet = Fleet.of(plan(), 5, 5)
    with pytest.raises(InternalError) as caught:
        tick(fleet.rollout, Counts(groups=(GroupCounts(),)), CREATED_S)
    assert caught.value.code == "rollout.counts"


def test_what_is_stored_comes_back_the_same() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS], rate={"per_minute": 3}), 5, 5)
    fleet.wait(300)
    before = fleet.rollout
    fleet.restart()
    assert fleet.rollout == before
    assert msgspec.json.decode(msgspec.json.encode(fleet.history[-1]), type=Tick) == fleet.history[-1]
