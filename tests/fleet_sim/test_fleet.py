"""A small simulated fleet against a real hub, over real sockets: a bad version stops and turns round by itself, and no
message is lost, doubled or out of order, whatever happens to the connections."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.settings import LinkSettings
from scripts.fleet_sim_app.fleet import Fleet, Pace
from scripts.fleet_sim_app.operator import Operator
from scripts.fleet_sim_app.release import MODEL
from scripts.fleet_sim_app.run import Given, Plan, Simulation
from scripts.fleet_sim_app.scenario import parse_scenario
from scripts.fleet_sim_app.screen import Silence
from shared.wire.up import InstallReport

DEVICES, CANARIES, ROUNDS, BLOCKED = 30, 10, 3, 4
PATIENCE_S = 180.0
SCENARIO = parse_scenario(b"""
name: crashes
profiles: {raspberry-pi-4: 2, x86-gateway: 1}
telemetry_interval_s: 1
bake_s: 2
expect: rolled_back
rules:
  - version: 2
    crash: {share: 60, after_s: 0.3}
  - download: {share: 30, cuts: 2}
""")
WELL = parse_scenario(b"name: well\nprofiles: {x86-gateway: 1}\ntelemetry_interval_s: 0.5\nexpect: finished\n")
LINK = LinkSettings(
    connect_timeout_s=60, retry_base_s=0.1, retry_cap_s=1, fallback_after_s=0.5, fallback_interval_s=0.3
)


@dataclass
class Seen:
    """What was found at the end. `statuses`, `reports`: the hub's rows; `made`: each device's last number."""

    facts: dict[str, Any] = field(default_factory=dict)
    statuses: dict[str, tuple[str, int, int, int, int]] = field(default_factory=dict)
    made: dict[str, tuple[str, int]] = field(default_factory=dict)
    reports: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    told: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    serving: dict[int, int] = field(default_factory=dict)
    documents: int = 0
    revisions: int = 0
    fallbacks: int = 0
    attached: dict[str, Any] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)


def _row(report: InstallReport) -> tuple[object, ...]:
    return (report.assignment_counter, report.version, report.previous, report.event, report.state, report.reason_code)


async def _disturb(fleet: Fleet) -> None:
    """Cut every connection, again and again, with messages on their way; then take MQTT from some."""
    for number in range(ROUNDS):
        for device in fleet.devices:
            device.say(f"test.before_{number}")
            await device.cut()
            device.say(f"test.after_{number}")
        await fleet.connected(PATIENCE_S)
    for device in fleet.devices[:BLOCKED]:
        await device.block_mqtt(True)
        device.say("test.blocked")
    await fleet.settled(PATIENCE_S)
    for device in fleet.devices[:BLOCKED]:
        await device.block_mqtt(False)
    await fleet.connected(PATIENCE_S)


def _read(database: Path, seen: Seen) -> None:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as hub:
        for row in hub.execute("SELECT device_id, epoch, watermark, messages, dropped, malformed FROM device_status"):
            seen.statuses[row[0]] = row[1:]
        query = "SELECT device_id, counter, version, previous, event, state, reason_code FROM install_reports"
        for row in hub.execute(f"{query} ORDER BY device_id, seq"):
            seen.told.setdefault(row[0], []).append(row[1:])
        for device_id, code in hub.execute("SELECT device_id, code FROM device_events ORDER BY device_id, seq"):
            seen.events.setdefault(device_id, []).append(code)
        seen.revisions = hub.execute("SELECT sum(desired_revision) FROM devices").fetchone()[0]


async def _attach(folder: Path, given: Given) -> dict[str, Any]:
    """Another fleet, for a hub that is there already."""
    plan = Plan(devices=3, scenario=WELL, seed=2, link=LINK, timeout_s=PATIENCE_S, given=given)
    return await Simulation(plan, folder, Silence()).run()


def _play(folder: Path) -> Seen:
    plan = Plan(
        devices=DEVICES, scenario=SCENARIO, pace=Pace(connects_per_s=0), bundle_bytes=60_000, link=LINK,
        timeout_s=PATIENCE_S,
    )  # fmt: skip
    seen = Seen()
    simulation = Simulation(plan, folder, Silence())

    async def inspect(fleet: Fleet, operator: Operator) -> None:
        del operator
        hub = simulation.hub
        assert hub is not None
        seen.pids = [hub.pid, hub.broker_pid]
        seen.documents = fleet.figures.documents
        _read(hub.database, seen)
        await _disturb(fleet)
        last = fleet.devices
        await fleet.until(lambda: all(device.settled for device in last), "every message", PATIENCE_S)
        for device in last:
            seen.made[device.device_id] = (device.outbox.state.epoch, device.outbox.state.next_seq - 1)
            seen.reports[device.device_id] = [_row(report) for report in device.reports]
        for earlier in (seen.statuses, seen.told, seen.events):
            earlier.clear()
        _read(hub.database, seen)
        seen.serving = {version: fleet.serving(MODEL, version) for version in (1, 2)}
        seen.fallbacks = fleet.figures.fallbacks
        seen.attached = await _attach(folder / "attached", Given(hub.url, hub.token, hub.ca_file, candidate=1))

    seen.facts = asyncio.run(simulation.run(inspect))
    return seen


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return _play(tmp_path_factory.mktemp("fleet"))


def test_a_version_that_crashes_many_stops_in_the_canary_and_every_device_goes_back(played: Seen) -> None:
    rollout = played.facts["rollout"]
    assert rollout["status"] == "rolled_back", rollout
    assert played.facts["as_expected"]
    assert 0 < rollout["exposed"] <= CANARIES
    assert played.serving == {1: DEVICES, 2: 0}


def test_the_rollout_says_that_crashes_stopped_it(played: Seen) -> None:
    """Either the gate saw the first crashes in the health messages, or the devices had given up before."""
    assert played.facts["fleet"]["crashes"] > 0
    codes = {report[-1] for reports in played.reports.values() for report in reports}
    assert "crash_rate" in played.facts["rollout"]["reason"] or "install.crash_loop" in codes


def test_nothing_is_lost_or_counted_twice_whatever_happens_to_the_connections(played: Seen) -> None:
    assert len(played.statuses) == DEVICES
    for device_id, (epoch, watermark, messages, dropped, malformed) in played.statuses.items():
        assert (epoch, watermark) == played.made[device_id]
        assert (messages, dropped, malformed) == (watermark, 0, 0)


def test_reports_arrive_in_the_order_in_which_they_were_made(played: Seen) -> None:
    assert played.told == played.reports


def test_events_around_a_cut_arrive_once_and_in_order(played: Seen) -> None:
    wanted = [f"test.{when}_{number}" for number in range(ROUNDS) for when in ("before", "after")]
    for codes in played.events.values():
        assert [code for code in codes if code.startswith("test.") and code != "test.blocked"] == wanted


def test_where_mqtt_is_blocked_messages_go_over_https(played: Seen) -> None:
    assert played.fallbacks > 0
    assert sum("test.blocked" in codes for codes in played.events.values()) == BLOCKED


def test_each_document_comes_once_for_each_revision_and_connection(played: Seen) -> None:
    fleet = played.facts["fleet"]
    assert played.documents <= played.revisions + fleet["connects"]


def test_downloads_are_real_and_some_were_resumed(played: Seen) -> None:
    fleet = played.facts["fleet"]
    assert fleet["downloads"] >= DEVICES
    assert fleet["downloaded_bytes"] > DEVICES * 60_000
    assert fleet["resumed"] > 0
    assert set(fleet["problems"]) == set()


def test_a_fleet_for_a_hub_that_is_there_rolls_out_to_its_own_devices_only(played: Seen) -> None:
    assert played.attached["rollout"]["status"] in ("keeping", "finished")
    assert played.attached["rollout"]["exposed"] == played.attached["serving_candidate"] == 3
    assert "hub" not in played.attached


def test_what_was_started_has_ended(played: Seen) -> None:
    assert all(played.pids)
    for pid in played.pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processor_and_memory_of_hub_and_broker_are_told(played: Seen) -> None:
    for name in ("hub", "broker", "simulator"):
        assert played.facts[name]["cpu_s"] > 0
        assert played.facts[name]["peak_rss_mb"] > 10
