"""What stops a rollout, and what then happens to its devices."""

from __future__ import annotations

import pytest

from hub.rollouts.counts import DeviceState
from hub.rollouts.plan import Mode
from hub.rollouts.state import (
    ChangeKind,
    Retry,
    RollBack,
    Status,
    Tick,
    Withdraw,
)
from tests.rollouts.fleet import (
    EXPOSED,
    UNDER_WAY,
    Fleet,
    kinds,
    plan,
    reason_of,
    status,
)

HOUR = 3600


# --- failure ---------------------------------------------------------------------------------------------------------
def test_too_many_failures_return_every_device_of_the_wave() -> None:
    fleet = Fleet.of(plan(), 10, 40)
    fleet.tick()
    fleet.finish(at_most=7)
    fleet.finish(DeviceState.REVERTED)
    outcome = fleet.tick(5)
    assert outcome.actions == (RollBack(group_no=0),)
    assert kinds(outcome)[:2] == [ChangeKind.GROUP_FAILED, ChangeKind.ROLLING_BACK]
    assert all(device.desired == device.previous for device in fleet.devices)
    for device in fleet.in_state(DeviceState.ROLLING_BACK):
        fleet.report(device, DeviceState.ROLLED_BACK)
    fleet.tick(5)
    assert status(fleet) is Status.ROLLED_BACK
    assert fleet.tick(5) == Tick(progress=fleet.rollout.progress)


def test_one_failure_below_the_minimum_sample_does_not_decide() -> None:
    fleet = Fleet.of(plan(), 40, 40)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING


def test_from_the_minimum_sample_on_the_share_decides() -> None:
    fleet = Fleet.of(plan(), 40, 40)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.finish(at_most=1)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish(at_most=1)
    fleet.tick(5)
    assert reason_of(fleet) == "group.error_rate"


def test_errors_over_the_share_of_the_whole_group_need_no_sample() -> None:
    fleet = Fleet.of(plan(each_group={"success_percent": 10, "error_percent": 10, "min_sample": 1000}), 10, 10)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert status(fleet) is not Status.RUNNING


def test_max_failures_is_an_absolute_limit() -> None:
    fleet = Fleet.of(plan(each_group={"success_percent": 10, "max_failures": 1}), 100, 10)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert reason_of(fleet) == "group.too_many_failures"


def test_a_group_that_cannot_succeed_any_more_has_failed() -> None:
    fleet = Fleet.of(plan(each_group={"success_percent": 90, "error_percent": 60}), 10, 10)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.finish(at_most=7)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.tick(5)
    assert reason_of(fleet) == "group.success_out_of_reach"


def test_devices_that_may_try_again_are_not_lost_yet() -> None:
    wave = {"success_percent": 90, "error_percent": 60, "min_sample": 10}
    fleet = Fleet.of(plan(retry={"attempts": 2, "backoff_s": 600}, each_group=wave), 10, 0)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=2)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.wait(900)
    fleet.finish(DeviceState.FAILED, at_most=2)
    fleet.tick(5)
    assert reason_of(fleet) == "group.success_out_of_reach"


def test_a_failure_in_an_earlier_wave_that_comes_late_still_stops_the_rollout() -> None:
    fleet = Fleet.of(plan(), 10, 40)
    fleet.tick()
    fleet.finish(at_most=8)
    fleet.wait(700)
    assert fleet.in_state(*EXPOSED, group_no=1)
    for device in fleet.in_state(DeviceState.ASSIGNED, group_no=0):
        fleet.report(device, DeviceState.REVERTED)
    fleet.tick(5)
    assert status(fleet) is Status.ROLLING_BACK


@pytest.mark.parametrize(("scope", "groups"), [("group", {1}), ("all", {0, 1})])
def test_the_scope_says_which_devices_return(scope: str, groups: set[int]) -> None:
    fleet = Fleet.of(plan(scope=scope), 10, 40)
    fleet.tick()
    fleet.finish()
    fleet.wait(700)
    fleet.finish(DeviceState.REVERTED, at_most=20)
    outcome = fleet.tick(5)
    assert {action.group_no for action in outcome.actions if isinstance(action, RollBack)} == groups
    assert len(fleet.in_state(DeviceState.SUCCEEDED, group_no=0)) == (10 if scope == "group" else 0)


def test_a_device_without_a_previous_version_is_withdrawn_at_a_roll_back() -> None:
    fleet = Fleet.of(plan(), 10, 0)
    fleet.devices[0].previous = None
    fleet.tick()
    fleet.finish(DeviceState.REVERTED)
    fleet.tick(5)
    assert fleet.devices[0].state is DeviceState.WITHDRAWN
    assert fleet.devices[1].state is DeviceState.ROLLING_BACK


def test_a_roll_back_ends_even_when_a_device_stays_away() -> None:
    fleet = Fleet.of(plan(), 10, 0)
    fleet.tick()
    fleet.finish(DeviceState.REVERTED)
    fleet.wait(1800)
    assert status(fleet) is Status.ROLLING_BACK
    fleet.wait(HOUR)
    reason = fleet.rollout.progress.reason
    assert status(fleet) is Status.ROLLED_BACK
    assert reason is not None
    assert reason.numbers["not_confirmed"] == 10


def test_abort_takes_back_what_is_under_way_and_leaves_what_succeeded() -> None:
    fleet = Fleet.of(plan(on_failure="abort"), 10, 40)
    fleet.tick()
    fleet.finish(at_most=6)
    fleet.finish(DeviceState.FAILED, at_most=3)
    outcome = fleet.tick(5)
    assert outcome.actions == (Withdraw(group_no=0),)
    fleet.tick(5)
    assert status(fleet) is Status.ABORTED
    assert len(fleet.in_state(DeviceState.SUCCEEDED)) == 6
    assert not fleet.in_state(*UNDER_WAY)


def test_pause_lets_what_is_under_way_end_and_assigns_nothing() -> None:
    fleet = Fleet.of(plan(on_failure="pause"), 10, 40)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=3)
    fleet.wait(2 * HOUR)
    assert status(fleet) is Status.PAUSED
    assert len(fleet.in_state(DeviceState.ASSIGNED)) == 7
    assert not fleet.in_state(*EXPOSED, group_no=1)


def test_late_devices_of_a_complete_rollout_pause_it_and_take_nothing_back() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    for _ in range(60):
        fleet.tick(60)
        fleet.finish()
    for device in fleet.of_group(1)[:20]:
        fleet.report(device, DeviceState.REVERTED)
    fleet.tick(5)
    assert status(fleet) is Status.PAUSED
    assert len(fleet.in_state(DeviceState.SUCCEEDED)) == 30


# --- retries ---------------------------------------------------------------------------------------------------------
def test_only_failed_devices_are_tried_again_and_only_after_the_back_off() -> None:
    retry = {"attempts": 3, "backoff_s": 600}
    fleet = Fleet.of(plan(retry=retry, each_group={"success_percent": 50, "error_percent": 60, "min_sample": 8}), 10, 0)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=1)
    fleet.finish(DeviceState.REVERTED, at_most=1)
    early = fleet.wait(600)  # counts are taken at the engine time of the tick before
    assert not any(isinstance(action, Retry) for outcome in early for action in outcome.actions)
    assert fleet.tick(60).actions == (Retry(group_no=0, limit=1, mode=Mode.LIVE),)
    assert fleet.devices[0].attempts == 2
    fleet.report(fleet.devices[0], DeviceState.FAILED)
    assert not any(outcome.actions for outcome in fleet.wait(1200))
    assert fleet.tick(60).actions == (Retry(group_no=0, limit=1, mode=Mode.LIVE),)
    fleet.report(fleet.devices[0], DeviceState.FAILED)
    assert not any(outcome.actions for outcome in fleet.wait(HOUR - 600))


def test_a_device_that_tries_again_still_counts_as_an_error() -> None:
    fleet = Fleet.of(plan(retry={"attempts": 9, "backoff_s": 60}, each_group={"success_percent": 1, "error_percent": 20,
                                                                               "min_sample": 5}), 10, 0)  # fmt: skip
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=2)
    fleet.wait(120)
    assert sum(device.attempts == 2 for device in fleet.devices) == 2
    fleet.report(fleet.devices[5], DeviceState.FAILED)
    fleet.tick(5)
    assert reason_of(fleet) == "group.error_rate"
