"""From a definition to devices that serve the version, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.rollouts.state import Status
from tests.rollouts_store.kit import STEPS, RolloutKit

CANARY: dict[str, Any] = {
    "model": "digits",
    "version": 2,
    "targets": {"filter": "all"},
    "groups": [
        {"name": "canary", "percent": 10},
        {"name": "rest", "percent": 100},
    ],
    "each_group": {"success_percent": 90, "error_percent": 20, "min_sample": 2, "observe_s": 3600, "bake_s": 60},
    "gates": [],
}


def test_a_canary_goes_first_and_the_rest_follows(kit: RolloutKit) -> None:
    kit.fleet(40)
    kit.release("digits", 1, 2)
    kit.serve(1)
    rollout = kit.start(CANARY)
    kit.run(2)
    groups, states = kit.groups(rollout), kit.states(rollout)
    canary = {device for device, group in groups.items() if group == 0}
    assert canary
    assert {device for device, state in states.items() if state == "succeeded"} == canary
    kit.run(30)
    assert kit.tally(rollout) == {"succeeded": 40}
    assert kit.status(rollout) is Status.KEEPING
    assert set(kit.served().values()) == {2}


def test_failures_in_the_canary_send_it_back_and_nobody_else_gets_it(kit: RolloutKit) -> None:
    kit.fleet(40)
    kit.release("digits", 1, 2)
    kit.serve(1)

    def break_it(_device: str, row: Mapping[str, Any]) -> Sequence[str]:
        return ("downloading", "probing", "rolled_back") if row["version"] == 2 else STEPS

    rollout = kit.start(CANARY)
    kit.run(20, break_it)
    tally = kit.tally(rollout)
    assert kit.status(rollout) is Status.ROLLED_BACK
    assert tally.keys() == {"waiting", "rolled_back"}
    assert set(kit.served().values()) == {1}


def test_a_fleet_smaller_than_its_canary_still_has_one(kit: RolloutKit) -> None:
    kit.fleet(3)
    kit.release("digits", 1, 2)
    kit.serve(1)
    groups = [{"name": "canary", "percent": 1, "min_devices": 10}, {"name": "rest", "percent": 100}]
    judged = {**CANARY["each_group"], "min_sample": 1}
    rollout = kit.start({**CANARY, "groups": groups, "each_group": judged})
    assert sorted(kit.groups(rollout).values()) == [0, 1, 1]
    kit.run(30)
    assert set(kit.served().values()) == {2}
