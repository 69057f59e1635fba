"""Rollouts through a real hub and real agents: what is bad stops in the canary and goes back, what is good gets there.

One fleet of four devices of two profiles, over real mTLS MQTT and HTTPS, serves all tests; each test rolls out a
version of its own, and the fleet serves one version before and after.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.clock import next_change_s, opening_at_two_s
from tests.e2e.fleet import until
from tests.e2e.rollout_fleet import PROFILES, RolloutFleet, rollout_fleet
from tests.e2e.versions import fragile_parts, slow_parts
from tests.registry_kit import Flow

pytestmark = pytest.mark.slow

CRASHES, SLOW, FRAGILE, GOOD, BETTER = 2, 3, 4, 5, 6
PARIS = "Europe/Paris"
DAY_S = 86_400
CANARY, OTHERS = ("gw-1", "pi-1"), ("gw-2", "pi-2")
NAMED: dict[str, Any] = {
    "groups": [{"name": "canary", "devices": list(CANARY)}, {"name": "rest", "percent": 100}],
    "each_group": {"success_percent": 100, "max_failures": 0, "bake_s": 600},
}
WAVES: dict[str, Any] = {
    "strategy": {"name": "canary", "steps": [50, 100]},
    "each_group": {"success_percent": 50, "min_sample": 1, "min_devices": 2, "bake_s": 1},
    "gates": [{"metric": "error_rate", "operator": "<=", "threshold": "5%", "window_s": 300, "min_sample": 10}],
}


def gate(metric: str, min_sample: int) -> dict[str, Any]:
    return {"metric": metric, "operator": "<=", "threshold": "5%", "window_s": 300, "min_sample": min_sample}


def release(flow: Flow) -> None:
    """Six approved versions, of which some misbehave in the field only."""
    flow.create_model("digits", bake_s=0)
    dataset, odd = flow.put_dataset(), {SLOW: slow_parts(), FRAGILE: fragile_parts()}
    for version in range(1, BETTER + 1):
        flow.digits(version, seed=1 + version % 2, **odd.get(version, {})).raise_for_status()
        assert flow.gate("digits", version, dataset)["passed"]
        flow.approve("digits", version)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolloutFleet]:
    with rollout_fleet(tmp_path_factory.mktemp("fleet"), release) as fleet:
        yield fleet


def assert_went_back(fleet: RolloutFleet, rollout: str) -> dict[str, Any]:
    """Only the canary had it, all serve version 1, and people are told why; the rollout's reason."""
    assert fleet.states(rollout) == dict.fromkeys(CANARY, "rolled_back") | dict.fromkeys(OTHERS, "waiting")
    for device in PROFILES:
        until(lambda device=device: fleet.serves(device) == 1, f"{device} does not serve version 1")
    shown = fleet.show(rollout)
    assert shown["groups"][0]["status"] == "failed"
    assert shown["reason"]["message"] in " ".join(fleet.said("rollout", "show", rollout).out.split())
    for device in ("pi-1", "pi-2"):
        assert rollout in fleet.said("rollout", "explain", device).out
    reason: dict[str, Any] = shown["reason"]
    return reason


def assert_stopped_by(fleet: RolloutFleet, rollout: str, metric: str, *device_codes: str) -> None:
    """By the gate; or, where the device was quicker, by its own word with one of these codes."""
    reason = assert_went_back(fleet, rollout)
    if reason["code"].startswith("gate."):
        assert metric in reason["message"]
        return
    assert reason["code"] == "group.too_many_failures", reason
    (failure,) = fleet.show(rollout)["failures"]
    assert failure["examples"] == ["pi-1"]
    assert failure["reason_code"] in device_codes


def test_a_version_that_crashes_now_and_then_is_stopped_by_the_hub_where_no_device_would(fleet: RolloutFleet) -> None:
    """One crash on one of the devices is nothing to the device itself: only the hub sees the share."""
    rollout = fleet.create({**NAMED, "version": CRASHES, "gates": [gate("crash_rate", 5)]})
    until(lambda: fleet.serves("pi-1") == CRASHES, "pi-1 does not get it")
    fleet.agents["pi-1"].stop(signal.SIGKILL)
    fleet.start("pi-1")
    fleet.until_status(rollout, "rolled_back")
    reason = assert_went_back(fleet, rollout)
    assert reason["code"].startswith("gate."), reason
    assert "crash_rate" in reason["message"]


def test_a_version_that_is_merely_slow_is_stopped_by_the_latency_gate(fleet: RolloutFleet) -> None:
    for device in CANARY:
        fleet.applications[device].batch = 256
    rollout = fleet.create({**NAMED, "version": SLOW, "gates": [gate("latency_p95", 10)]})
    fleet.until_status(rollout, "rolled_back")
    for device in CANARY:
        fleet.applications[device].batch = 32
    assert_stopped_by(fleet, rollout, "latency_p95")


def test_a_version_that_errs_on_one_profile_only_is_not_hidden_by_the_other(fleet: RolloutFleet) -> None:
    for device in ("pi-1", "pi-2"):
        fleet.applications[device].look = lambda pictures: 16 - pictures
    rollout = fleet.create({**NAMED, "version": FRAGILE, "gates": [gate("error_rate", 10)]})
    fleet.until_status(rollout, "rolled_back")
    for device in ("pi-1", "pi-2"):
        fleet.applications[device].look = lambda pictures: pictures
    assert_stopped_by(fleet, rollout, "error_rate", "probation.errors")


def test_a_hub_that_is_killed_in_the_middle_goes_on_exactly_there(fleet: RolloutFleet) -> None:
    rollout = fleet.create({**WAVES, "version": GOOD})
    until(lambda: set(fleet.states(rollout).values()) != {"waiting"}, "nobody is assigned")
    fleet.kill_hub()
    fleet.serve()
    until(lambda: "succeeded" in fleet.states(rollout).values(), "nobody succeeds")
    fleet.kill_hub()
    fleet.serve()
    fleet.until_status(rollout, "keeping")
    until(lambda: set(fleet.states(rollout).values()) == {"succeeded"}, "not everybody gets it")
    assert {row["attempts"] for row in fleet.devices(rollout).values()} == {1}
    events = [event["kind"] for event in fleet.skerry.json("rollout", "events", rollout)]
    assert events.count("group_started") == events.count("group_passed") == 2
    assert {fleet.serves(device) for device in PROFILES} == {GOOD}


def test_a_device_that_was_away_joins_late_in_the_wave_that_was_always_its_own(fleet: RolloutFleet) -> None:
    fleet.agents["pi-2"].stop()
    rollout = fleet.create({**WAVES, "version": BETTER})
    wave = fleet.devices(rollout)["pi-2"]["group_no"]
    until(lambda: list(fleet.states(rollout).values()).count("succeeded") == 3, "the others do not get it")
    assert fleet.states(rollout)["pi-2"] in ("assigned", "waiting")
    said = fleet.said("rollout", "explain", "pi-2").out
    assert rollout in said
    fleet.start("pi-2")
    until(lambda: fleet.states(rollout)["pi-2"] == "succeeded", "the late device does not get it")
    fleet.until_status(rollout, "keeping")
    assert fleet.devices(rollout)["pi-2"]["group_no"] == wave
    assert {fleet.serves(device) for device in PROFILES} == {BETTER}


def test_a_fleet_of_which_half_is_away_for_a_week_gets_there(fleet: RolloutFleet) -> None:
    for device in OTHERS:
        fleet.agents[device].stop()
    rollout = fleet.create({**NAMED, "groups": [{"name": "all", "percent": 100}], "version": GOOD, "gates": []})
    there = dict.fromkeys(CANARY, "succeeded") | dict.fromkeys(OTHERS, "assigned")
    until(lambda: fleet.states(rollout) == there, "the devices that are there do not get it")
    fleet.set_clocks(7 * DAY_S, CANARY)
    until(lambda: fleet.show(rollout)["status"] == "running", "the rollout does not go on")
    assert fleet.states(rollout) == there
    for device in OTHERS:
        fleet.start(device)
    until(lambda: set(fleet.states(rollout).values()) == {"succeeded"}, "who was away does not get it")
    assert {fleet.serves(device) for device in PROFILES} == {GOOD}


def test_a_window_at_two_in_the_night_when_the_clocks_change_opens_when_it_should(fleet: RolloutFleet) -> None:
    opens_s = opening_at_two_s(PARIS, next_change_s(PARIS, time.time() + 8 * DAY_S))
    ahead_s = opens_s - time.time() - 30
    fleet.set_clocks(ahead_s, [])
    window = {"cron": "0 2 * * *", "duration_s": 7200, "timezone": PARIS}
    everybody = [{"name": "all", "percent": 100}]
    rollout = fleet.create({**NAMED, "groups": everybody, "version": BETTER, "gates": [], "window": window})
    until(lambda: fleet.show(rollout)["status"] == "running", "it does not start")
    shown = fleet.show(rollout)
    if time.time() + ahead_s < opens_s:  # a slow machine may be late; then the window is simply open
        assert shown["waits_for"]["code"] == "wait.window"
        assert shown["waits_for"]["numbers"]["opens_s"] == opens_s
        assert set(fleet.states(rollout).values()) == {"waiting"}
    for device in PROFILES:
        fleet.start(device)
    until(lambda: set(fleet.states(rollout).values()) == {"succeeded"}, "not everybody gets it")
    assert {fleet.serves(device) for device in PROFILES} == {BETTER}
    assert all(row["changed_s"] >= opens_s for row in fleet.devices(rollout).values())
    assert time.time() + ahead_s < opens_s + 7200
