"""Gates while groups bake; and the strategies that do not simply install."""

from __future__ import annotations

from hub.rollouts.counts import DeviceState, Evidence
from hub.rollouts.plan import Mode
from hub.rollouts.state import (
    Assign,
    ChangeKind,
    GroupStatus,
    RollBack,
    Status,
    Switch,
)
from tests.rollouts.fleet import (
    Fleet,
    group,
    kinds,
    plan,
    reason_of,
    share,
    status,
    waits_for,
)

HOUR = 3600
ERRORS = {"metric": "error_rate", "operator": "<=", "threshold": "5%", "min_sample": 20}


# --- gates -----------------------------------------------------------------------------------------------------------
def test_a_failing_gate_stops_the_group_before_its_bake_time_is_over() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.tick(5)
    fleet.evidence = (Evidence(gate_no=0, candidate=share(30, 100)),)
    outcome = fleet.tick(5)
    assert kinds(outcome)[:3] == [ChangeKind.GATE_FAILED, ChangeKind.GROUP_FAILED, ChangeKind.ROLLING_BACK]
    assert outcome.actions == (RollBack(group_no=0),)


def test_a_version_that_errs_on_one_profile_only_is_stopped() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.evidence = (
        Evidence(gate_no=0, candidate=share(30, 10_000)),
        Evidence(gate_no=0, profile="jetson", candidate=share(30, 100)),
        Evidence(gate_no=0, profile="pi", candidate=share(0, 9900)),
    )
    fleet.tick(5)
    assert status(fleet) is Status.ROLLING_BACK
    reason = fleet.rollout.progress.reason
    assert reason is not None
    assert "jetson" in reason.message


def test_a_version_that_is_merely_slow_is_stopped() -> None:
    fleet = Fleet.of(plan(groups=None, strategy="canary", gates=None), 5, 45, 200, 250)
    fleet.tick()
    fleet.finish()
    fine = share(0, 500)
    fleet.evidence = (
        Evidence(gate_no=0, candidate=fine),
        Evidence(gate_no=1, candidate=fine, control=share(1, 50_000)),
        Evidence(gate_no=2, candidate=share(26, 500)),
    )
    fleet.tick(5)
    assert status(fleet) is Status.ROLLING_BACK
    assert reason_of(fleet) == "gate.fail"
    assert "latency_p95" in str(fleet.rollout.progress.reason)


def test_a_gate_without_enough_samples_holds_the_group() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.wait(2 * HOUR)
    assert group(fleet, 0) is GroupStatus.BAKING
    assert waits_for(fleet) == "gate.inconclusive"
    fleet.evidence = (Evidence(gate_no=0, candidate=share(0, 20)),)
    fleet.wait(120)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_a_gate_may_let_the_group_pass_without_samples_if_the_plan_says_so() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS | {"on_inconclusive": "pass"}]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.wait(700)
    assert group(fleet, 0) is GroupStatus.PASSED


def test_of_very_many_verdicts_those_that_matter_are_kept() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS | {"on_fail": "pause"}]), 5, 45)
    fleet.tick()
    rows = [Evidence(gate_no=0, profile=f"profile-{no:03d}", candidate=share(0, 100)) for no in range(300)]
    whole = Evidence(gate_no=0, candidate=share(30, 30_000))
    fleet.evidence = (whole, *rows)
    fleet.tick(5)
    assert [result.profile for result in fleet.rollout.progress.gates] == [""]
    bad = Evidence(gate_no=0, profile="profile-bad", candidate=share(50, 100))
    fleet.evidence = (whole, *rows, bad)
    fleet.tick(5)
    assert [result.profile for result in fleet.rollout.progress.gates] == ["", "profile-bad"]


def test_each_gate_says_what_its_failure_does() -> None:
    fleet = Fleet.of(plan(gates=[ERRORS | {"on_fail": "pause"}]), 5, 45)
    fleet.tick()
    fleet.finish()
    fleet.evidence = (Evidence(gate_no=0, candidate=share(30, 100)),)
    fleet.tick(5)
    assert status(fleet) is Status.PAUSED


# --- strategies of their own kind ------------------------------------------------------------------------------------
def test_blue_green_stages_everywhere_and_switches_together() -> None:
    groups = [{"name": "all", "percent": 100, "prepare": True, "approve": False}]
    fleet = Fleet.of(plan(groups=groups), 10)
    assert fleet.tick().actions == (Assign(group_no=0, limit=10, mode=Mode.HOLD),)
    fleet.finish(at_most=7)
    assert fleet.tick(5).actions == ()
    assert group(fleet, 0) is GroupStatus.PREPARING
    fleet.finish()
    assert fleet.tick(5).actions == (Switch(group_no=0, limit=10),)
    fleet.finish()
    fleet.wait(700)
    assert status(fleet) is Status.KEEPING


def test_a_late_device_of_a_group_that_switched_goes_live_at_once() -> None:
    fleet = Fleet.of(plan(groups=[{"name": "all", "percent": 100, "prepare": True}]), 10)
    fleet.tick()
    fleet.finish(at_most=9)
    fleet.tick(5)
    for device in fleet.in_state(DeviceState.STAGED)[:5]:
        fleet.report(device, DeviceState.INSTALLING)
    late = fleet.in_state(DeviceState.ASSIGNED)[0]
    late.state = DeviceState.WAITING
    assert fleet.tick(5).actions == (Assign(group_no=0, limit=1, mode=Mode.LIVE),)
    assert group(fleet, 0) is GroupStatus.RUNNING


def test_blue_green_prepares_outside_the_window_and_switches_inside() -> None:
    groups = [{"name": "all", "percent": 100, "prepare": True}]
    window = {"cron": "0 9 * * *", "duration_s": "1h", "timezone": "UTC"}
    fleet = Fleet.of(plan(groups=groups, window=window), 10)
    assert fleet.tick().actions == (Assign(group_no=0, limit=10, mode=Mode.HOLD),)
    fleet.finish()
    assert fleet.tick(5).actions == ()
    fleet.wait(HOUR - 60)
    assert len(fleet.in_state(DeviceState.STAGED)) == 10
    assert Switch(group_no=0, limit=10) in [a for outcome in fleet.wait(120) for a in outcome.actions]


def test_what_was_only_prepared_is_taken_back_at_the_end() -> None:
    groups = [{"name": "all", "percent": 100, "prepare": True, "approve": True}]
    fleet = Fleet.of(plan(groups=groups, end_at="2027-01-15T08:10:00+00:00"), 10)
    fleet.tick()
    fleet.finish()
    fleet.wait(900)
    assert status(fleet) is Status.FINISHED
    assert len(fleet.in_state(DeviceState.WITHDRAWN)) == 10


def test_a_shadow_is_taken_away_when_it_has_been_judged() -> None:
    gate = {"metric": "shadow_disagreement", "operator": "<=", "threshold": "5%", "min_sample": 20}
    fleet = Fleet.of(plan(groups=None, strategy={"name": "shadow", "share": 100}, gates=[gate],
                          each_group={"bake_s": 600}), 10)  # fmt: skip
    assert fleet.tick().actions == (Assign(group_no=0, limit=10, mode=Mode.SHADOW),)
    fleet.finish()
    fleet.evidence = (Evidence(gate_no=0, candidate=share(1, 100)),)
    fleet.wait(900)
    assert status(fleet) is Status.FINISHED
    assert len(fleet.in_state(DeviceState.WITHDRAWN)) == 10
