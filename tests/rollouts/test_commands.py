"""What a person may do to a rollout, and when."""

from __future__ import annotations

import pytest

from hub.rollouts.commands import command
from hub.rollouts.counts import DeviceState, Evidence
from hub.rollouts.state import ChangeKind, Command, CommandKind, GroupStatus, Status, Tick
from shared.errors import Conflict, InvalidInput
from tests.rollouts.fleet import EXPOSED, UNDER_WAY, Fleet, group, kinds, plan, share, status, waits_for

ERRORS = {"metric": "error_rate", "operator": "<=", "threshold": "5%", "min_sample": 20}
LENIENT = {"success_percent": 50, "error_percent": 20, "min_sample": 3, "observe_s": 3600}


def ask(fleet: Fleet, kind: CommandKind, group_no: int | None = None) -> Tick:
    asked = Command(kind=kind, group_no=group_no, by="alice", note="at night")
    outcome = command(fleet.rollout, asked, fleet.counts(), fleet.now_s)
    fleet.apply(outcome)
    return outcome


def refused(fleet: Fleet, kind: CommandKind, group_no: int | None = None) -> None:
    with pytest.raises(Conflict) as caught:
        ask(fleet, kind, group_no)
    assert caught.value.code == "rollout.state"
    assert caught.value.hint


def complete(fleet: Fleet) -> Fleet:
    for _ in range(60):
        fleet.tick(60)
        fleet.finish()
    return fleet


# --- pause and resume ------------------------------------------------------------------------------------------------
def test_a_paused_rollout_assigns_nothing_until_it_resumes() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    ask(fleet, CommandKind.PAUSE)
    fleet.wait(600)
    assert not fleet.in_state(*EXPOSED)
    outcome = ask(fleet, CommandKind.RESUME)
    assert outcome.changes[0].reason.message == "alice asked for resume: at night"
    fleet.tick(5)
    assert len(fleet.in_state(*EXPOSED)) == 5


def test_a_kept_rollout_that_paused_is_kept_again() -> None:
    fleet = complete(Fleet.of(plan(), 5, 5))
    ask(fleet, CommandKind.PAUSE)
    ask(fleet, CommandKind.RESUME)
    assert status(fleet) is Status.KEEPING


def test_failures_go_on_being_judged_during_a_pause() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    ask(fleet, CommandKind.PAUSE)
    fleet.finish(DeviceState.REVERTED)
    fleet.tick(5)
    assert status(fleet) is Status.ROLLING_BACK


def test_resume_forgives_what_failed_so_far_and_holds_the_rest_to_the_same_limits() -> None:
    fleet = Fleet.of(plan(on_failure="pause", each_group=LENIENT), 20, 0)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=4)
    fleet.tick(5)
    assert status(fleet) is Status.PAUSED
    outcome = ask(fleet, CommandKind.RESUME)
    assert kinds(outcome) == [ChangeKind.GROUP_RESUMED, ChangeKind.RESUMED]
    fleet.finish(at_most=6)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish(DeviceState.FAILED, at_most=3)
    fleet.tick(5)
    assert status(fleet) is Status.PAUSED


def test_a_group_whose_failures_were_forgiven_can_still_succeed() -> None:
    fleet = Fleet.of(plan(on_failure="pause"), 20, 0)
    fleet.tick()
    fleet.finish(DeviceState.FAILED, at_most=5)
    fleet.tick(5)
    ask(fleet, CommandKind.RESUME)
    fleet.tick(5)
    assert status(fleet) is Status.RUNNING
    fleet.finish()
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.BAKING


def test_a_gate_that_still_fails_pauses_again_at_once() -> None:
    fleet = Fleet.of(plan(on_failure="pause", gates=[ERRORS]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.evidence = (Evidence(gate_no=0, candidate=share(30, 100)),)
    fleet.tick(5)
    ask(fleet, CommandKind.RESUME)
    fleet.tick(5)
    assert status(fleet) is Status.PAUSED
    assert not fleet.in_state(*EXPOSED, group_no=1)


# --- approve ----------------------------------------------------------------------------------------------------------
def test_a_group_that_asks_for_approval_waits_for_it() -> None:
    groups = [{"name": "a", "percent": 10, "approve": True}, {"name": "b", "percent": 100}]
    fleet = Fleet.of(plan(groups=groups), 5, 45)
    fleet.tick()
    fleet.finish()
    refused(fleet, CommandKind.APPROVE)
    fleet.wait(86400, step_s=300)
    assert group(fleet, 0) is GroupStatus.AWAITING_APPROVAL
    assert not fleet.in_state(*EXPOSED, group_no=1)
    ask(fleet, CommandKind.APPROVE)
    refused(fleet, CommandKind.APPROVE)
    fleet.tick(5)
    assert len(fleet.in_state(*EXPOSED, group_no=1)) == 45


def test_approval_stands_in_for_silent_devices_but_not_for_the_bake_time() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    fleet.finish(at_most=5)
    fleet.wait(1800)
    refused(fleet, CommandKind.APPROVE)
    fleet.wait(2400)
    assert waits_for(fleet) == "group.stalled"
    ask(fleet, CommandKind.APPROVE)
    fleet.wait(300)
    assert group(fleet, 0) is GroupStatus.BAKING
    fleet.wait(600)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_approval_stands_in_for_missing_samples() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.tick(5)
    refused(fleet, CommandKind.APPROVE)
    fleet.wait(900)
    assert group(fleet, 0) is GroupStatus.BAKING
    ask(fleet, CommandKind.APPROVE)
    fleet.tick(5)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_approval_never_stands_in_for_a_failure() -> None:
    fleet = Fleet.of(plan(on_failure="pause"), 10, 10)
    fleet.tick()
    fleet.finish(DeviceState.FAILED)
    fleet.tick(5)
    refused(fleet, CommandKind.APPROVE)


def test_a_person_lets_prepared_devices_switch() -> None:
    fleet = Fleet.of(plan(groups=[{"name": "all", "percent": 100, "prepare": True, "approve": True}]), 10)
    fleet.tick()
    fleet.finish()
    fleet.wait(3600)
    assert group(fleet, 0) is GroupStatus.READY
    assert len(fleet.in_state(DeviceState.STAGED)) == 10
    ask(fleet, CommandKind.APPROVE)
    fleet.tick(5)
    fleet.finish()
    fleet.wait(700)
    assert status(fleet) is Status.KEEPING


def test_a_person_may_pass_over_a_group_with_nobody_in_it() -> None:
    fleet = Fleet.of(plan(), 0, 5)
    fleet.wait(120)
    ask(fleet, CommandKind.APPROVE)
    fleet.tick(5)
    assert len(fleet.in_state(*EXPOSED)) == 5


# --- abort, roll back, finish -----------------------------------------------------------------------------------------
def test_after_an_abort_nothing_is_ever_assigned_again() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    fleet.finish(at_most=3)
    ask(fleet, CommandKind.ABORT)
    fleet.tick(5)
    fleet.tick(5)
    assert status(fleet) is Status.ABORTED
    assert len(fleet.in_state(DeviceState.SUCCEEDED)) == 3
    assert not fleet.in_state(*UNDER_WAY)
    for kind in (CommandKind.ABORT, CommandKind.PAUSE, CommandKind.RESUME, CommandKind.APPROVE, CommandKind.FINISH):
        refused(fleet, kind)
    assert not any(outcome.actions for outcome in fleet.wait(600))


def test_an_abort_before_the_start_ends_it() -> None:
    fleet = Fleet.of(plan(start_at="2027-02-01T00:00:00+00:00"), 10, 10)
    fleet.tick()
    ask(fleet, CommandKind.ABORT)
    fleet.tick(5)
    assert status(fleet) is Status.ABORTED


@pytest.mark.parametrize("keep", [True, False])
def test_a_complete_rollout_can_be_rolled_back(keep: bool) -> None:
    fleet = complete(Fleet.of(plan(allow_new_devices=keep), 5, 45))
    ask(fleet, CommandKind.ROLL_BACK)
    fleet.tick(5)
    assert len(fleet.in_state(DeviceState.ROLLING_BACK)) == 50
    assert all(device.desired == device.previous for device in fleet.devices)


def test_an_aborted_rollout_can_be_rolled_back() -> None:
    fleet = Fleet.of(plan(), 10, 10)
    fleet.tick()
    fleet.finish(at_most=3)
    ask(fleet, CommandKind.ABORT)
    fleet.wait(120)
    ask(fleet, CommandKind.ROLL_BACK)
    fleet.tick(5)
    assert len(fleet.in_state(DeviceState.ROLLING_BACK)) == 3


def test_one_group_can_be_rolled_back_and_then_the_rest() -> None:
    fleet = complete(Fleet.of(plan(), 5, 45))
    ask(fleet, CommandKind.ROLL_BACK, group_no=1)
    fleet.tick(5)
    assert len(fleet.in_state(DeviceState.SUCCEEDED, group_no=0)) == 5
    refused(fleet, CommandKind.ROLL_BACK, group_no=1)
    ask(fleet, CommandKind.ROLL_BACK)
    fleet.tick(5)
    assert len(fleet.in_state(DeviceState.ROLLING_BACK)) == 50


def test_there_is_nothing_to_roll_back_before_anything_was_assigned() -> None:
    fleet = Fleet.of(plan(), 5, 45)
    refused(fleet, CommandKind.ROLL_BACK)
    with pytest.raises(InvalidInput) as caught:
        ask(fleet, CommandKind.ROLL_BACK, group_no=2)
    assert caught.value.code == "rollout.group"


def test_finish_ends_a_kept_rollout_and_refuses_a_running_one() -> None:
    fleet = Fleet.of(plan(), 5, 5)
    fleet.tick()
    refused(fleet, CommandKind.FINISH)
    complete(fleet)
    ask(fleet, CommandKind.FINISH)
    fleet.tick(5)
    assert status(fleet) is Status.FINISHED
    fleet.devices[0].state = DeviceState.WAITING
    assert fleet.tick(5).actions == ()
