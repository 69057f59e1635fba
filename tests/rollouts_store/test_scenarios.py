"""Stories of whole fleets: what is broken stops where it can do little, and nobody gets what was not tried before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from hub.rollouts.state import Status
from shared import canonical
from tests.rollouts_store.kit import STEPS, RolloutKit
from tests.rollouts_store.test_life import CANARY

BASE: dict[str, Any] = {
    **CANARY,
    "each_group": {"success_percent": 80, "error_percent": 30, "min_sample": 2, "observe_s": 3600, "bake_s": 600},
    "groups": [{"name": "canary", "percent": 20, "min_devices": 10}, {"name": "rest", "percent": 100}],
    "scope": "group",
}
GATES: list[dict[str, Any]] = [
    {"metric": "crash_rate", "operator": "<=", "threshold": "5%", "min_sample": 5},
    {"metric": "error_rate", "operator": "<=", "threshold": "2%", "min_sample": 100},
    {"metric": "latency_p95", "operator": "<=", "threshold": "5%", "min_sample": 100},
]
Health = Mapping[str, Any]


@pytest.fixture
def mixed(kit: RolloutKit) -> RolloutKit:
    """Forty devices of each of two profiles on version 1; version 2 is approved."""
    kit.fleet(40, "raspberry-pi-4", "pi")
    kit.fleet(40, "x86-gateway", "gw")
    kit.release("digits", 1, 2)
    kit.serve(1)
    return kit


def live_through(kit: RolloutKit, rollout: str, health: Any, rounds: int = 10) -> None:
    """Rounds of a minute in which the devices that have version 2 tell how it does."""
    for _ in range(rounds):
        kit.run(1, step_s=60)
        for device_id, version in kit.served().items():
            if version == 2:
                kit.say_health(device_id, 2, **health(device_id))
        kit.flush()
        if kit.status(rollout) in (Status.ROLLED_BACK, Status.ROLLING_BACK):
            break
    kit.run(3, step_s=60)


def assert_only_the_canary_had_it_and_gave_it_back(kit: RolloutKit, rollout: str) -> None:
    groups, states = kit.groups(rollout), kit.states(rollout)
    assert kit.status(rollout) is Status.ROLLED_BACK
    assert {state for device, state in states.items() if groups[device] == 0} == {"rolled_back"}
    assert {state for device, state in states.items() if groups[device] == 1} == {"waiting"}
    assert set(kit.served().values()) == {1}
    assert {row["version"] for row in kit.desires().values()} == {1}


def failed_gate(kit: RolloutKit, rollout: str) -> str:
    reason = kit.progress(rollout).reason
    assert reason is not None
    return reason.message


def test_a_version_that_crashes_a_third_of_one_profile_is_stopped_in_the_canary(mixed: RolloutKit) -> None:
    rollout = mixed.start({**BASE, "gates": GATES})

    def health(device_id: str) -> Health:
        return {"requests": 50, "crashes": int(device_id.startswith("pi") and int(device_id[-1]) % 3 == 0)}

    live_through(mixed, rollout, health)
    assert_only_the_canary_had_it_and_gave_it_back(mixed, rollout)
    assert "crash_rate" in failed_gate(mixed, rollout)


def test_a_version_that_is_merely_slow_is_stopped_in_the_canary(mixed: RolloutKit) -> None:
    rollout = mixed.start({**BASE, "gates": GATES})
    live_through(mixed, rollout, lambda _device: {"requests": 50, "over_budget": 10})
    assert_only_the_canary_had_it_and_gave_it_back(mixed, rollout)
    assert "latency_p95" in failed_gate(mixed, rollout)


def test_a_version_that_errs_on_one_profile_only_is_not_hidden_by_the_others(mixed: RolloutKit) -> None:
    gates = [{**GATES[1], "threshold": "10%"}]
    rollout = mixed.start({**BASE, "gates": gates})

    def health(device_id: str) -> Health:
        return {"requests": 20, "errors": 4} if device_id.startswith("gw") else {"requests": 400, "errors": 0}

    live_through(mixed, rollout, health)
    assert_only_the_canary_had_it_and_gave_it_back(mixed, rollout)
    assert "x86-gateway" in failed_gate(mixed, rollout)


def test_a_healthy_version_passes_the_same_gates(mixed: RolloutKit) -> None:
    rollout = mixed.start({**BASE, "gates": GATES})
    live_through(mixed, rollout, lambda _device: {"requests": 50}, rounds=30)
    assert mixed.status(rollout) is Status.KEEPING
    assert mixed.tally(rollout) == {"succeeded": 80}


def test_a_fleet_of_which_half_is_away_for_a_week_gets_there(kit: RolloutKit) -> None:
    ids = kit.fleet(40)
    kit.release("digits", 1, 2)
    kit.serve(1)
    away = set(ids[::2])
    groups = [{"name": "canary", "percent": 20, "min_devices": 6}, {"name": "rest", "percent": 100}]
    each = {**BASE["each_group"], "success_percent": 20, "observe_s": 600, "bake_s": 60}
    rollout = kit.start({**BASE, "groups": groups, "each_group": each, "allow_new_devices": True})

    def behave(device_id: str, _row: Mapping[str, Any]) -> Sequence[str]:
        return () if device_id in away else STEPS

    kit.run(30, behave, step_s=60)
    assert kit.tally(rollout) == {"succeeded": 20, "assigned": 20}
    kit.clock.now_s += 7 * 86400
    kit.run(2, behave, step_s=60)
    assert kit.tally(rollout) == {"succeeded": 20, "assigned": 20}, "a jump of the clock is no silence"
    before = kit.desires()
    assert kit.assignments.reissue_expiring() == 20
    assert all(kit.desires()[device]["counter"] > before[device]["counter"] for device in away)
    kit.run(3, step_s=60)
    assert kit.tally(rollout) == {"succeeded": 40}


def test_devices_that_come_during_a_rollout_are_canaries_first_and_never_all_at_once(kit: RolloutKit) -> None:
    kit.fleet(50)
    kit.release("digits", 1, 2)
    kit.serve(1)
    rollout = kit.start({**BASE, "groups": [{"name": "canary", "percent": 20}, {"name": "rest", "percent": 100}]})
    kit.run(2)
    new = kit.fleet(50, prefix="new")
    kit.run(2)
    groups, states = kit.groups(rollout), kit.states(rollout)
    assert set(new) <= groups.keys()
    given = {device for device in new if states[device] != "waiting"}
    assert given == {device for device in new if groups[device] == 0}
    assert 0 < len(given) < 30
    kit.run(20, step_s=60)
    assert kit.tally(rollout) == {"succeeded": 100}
    late = kit.fleet(5, prefix="late")
    kit.run(3)
    assert {kit.states(rollout)[device] for device in late} == {"succeeded"}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("created", "closed", "opens", "closes"),
    [
        ("2026-03-28T22:00", "2026-03-29T00:58", "2026-03-29T01:01", "2026-03-29T02:01"),  # 02:00 does not exist
        ("2026-10-24T22:00", "2026-10-24T23:58", "2026-10-25T00:01", "2026-10-25T01:01"),  # 02:00 comes twice
    ],
)
def test_a_window_at_two_in_the_night_of_a_change_in_paris_opens_once(
    kit: RolloutKit, created: str, closed: str, opens: str, closes: str
) -> None:
    kit.clock.now_s = at(created)
    kit.fleet(30)
    kit.release("digits", 1, 2)
    kit.serve(1)
    window = {"cron": "0 2 * * *", "duration_s": 3600, "timezone": "Europe/Paris"}
    rollout = kit.start(
        {**BASE, "groups": [{"name": "all", "percent": 100}], "window": window, "rate": {"per_minute": 10}}
    )

    def given_at(moment: str) -> int:
        kit.clock.now_s = at(moment)
        for _ in range(3):  # the first tick after a jump only notices it
            kit.engine.run()
            kit.clock.now_s += 20
        return 30 - kit.tally(rollout).get("waiting", 0)

    assert given_at(closed) == 0
    waits = kit.progress(rollout).waits_for
    assert waits is not None
    assert waits.code == "wait.window"
    some = given_at(opens)
    assert 0 < some < 30
    assert given_at(closes) == some
    device = next(device for device, state in kit.states(rollout).items() if state == "assigned")
    kit.desired.desired_state(device)
    signed = kit.signatures.signed[-1]
    assert signed.schema_version == 2
    assert canonical.dumps(signed.window) == canonical.dumps(window)
