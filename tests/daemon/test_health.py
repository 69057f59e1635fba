"""How versions do: counted per version, told once, crashes included, whatever ends the agent."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.inference.ledger import Answered, fitting
from agent.inference.statistics import Statistics
from agent.outbox.outbox import Outbox
from agent.paths import AgentPaths
from agent.telemetry.health import HealthSource
from agent.telemetry.running import Crash, RunMarker
from shared.clock import SystemClock
from shared.errors import InvalidInput
from shared.wire.health import Health, ShadowHealth, VersionHealth
from shared.wire.up import decode_body, decode_envelope
from tests.daemon.device import RunningAgent, give_identity, install_digits, running
from tests.models import load_digits, unpacked_digits

BOOT = "this boot"
TELLS_OFTEN = "telemetry_interval_s: 0.05\n"


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    found = AgentPaths(tmp_path / "state")
    install_digits(found)
    return found


def host_with(tmp_path: Path, *versions: int, budget_ns: int = 0) -> tuple[ModelHost, list[ModelHandle]]:
    host, loaded = ModelHost(budget_ns=budget_ns), []
    for version in versions:
        folder = tmp_path / f"v{version}"
        unpacked_digits(folder, version)
        loaded.append(host.load("digits", folder))
    host.swap("digits", loaded[0])
    return host, loaded


def total(found: list[Answered], version: int) -> int:
    return sum(answered.counts.requests for answered in found if answered.version == version)


# --- counting -------------------------------------------------------------------------------------------------------
def test_each_version_keeps_its_own_counts_over_a_swap(tmp_path: Path) -> None:
    host, (_, second) = host_with(tmp_path, 1, 2)
    x = load_digits().test_x[:1]
    for _ in range(3):
        host.predict("digits", x)
    host.swap("digits", second)
    host.predict("digits", x)
    found = host.answered()
    assert (total(found, 1), total(found, 2)) == (3, 1)
    assert host.answered() == []
    host.close()


def test_what_a_version_answered_before_it_was_unloaded_is_still_told(tmp_path: Path) -> None:
    host, _ = host_with(tmp_path, 1)
    host.predict("digits", load_digits().test_x[:1])
    host.unload("digits")
    assert total(host.answered(), 1) == 1
    assert host.answered() == []


def test_answers_over_the_profiles_budget_are_counted_exactly(tmp_path: Path) -> None:
    for budget_ns, slow in ((1, 2), (0, 0), (10**12, 0)):
        host, _ = host_with(tmp_path / str(budget_ns), 1, budget_ns=budget_ns)
        for _ in range(2):
            host.predict("digits", load_digits().test_x[:1])
        (found,) = host.answered()
        assert (found.counts.requests, found.counts.over_budget) == (2, slow)
        host.close()


def test_refused_input_is_nobodys_request(tmp_path: Path) -> None:
    host, _ = host_with(tmp_path, 1)
    with pytest.raises(InvalidInput):
        host.predict("digits", np.zeros((1, 3), np.float32))
    assert total(host.answered(), 1) == 0
    host.close()


def test_counts_read_while_they_are_written_still_fit_together() -> None:
    torn = Statistics(requests=3, errors=2, over_budget=2)
    assert fitting(torn) == Statistics(requests=3, errors=2, over_budget=1)
    assert torn.after(fitting(torn)) == Statistics(over_budget=1)


def test_nothing_is_lost_or_told_twice_while_threads_predict_and_versions_change(tmp_path: Path) -> None:
    host, (first, second, third) = host_with(tmp_path, 1, 2, 3, budget_ns=1)
    x, rounds = load_digits().test_x[:1], 200

    def predict() -> None:
        for _ in range(rounds):
            host.predict("digits", x)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    found = host.answered()
    for loaded in (second, third):
        host.swap("digits", loaded)
        found += host.answered()
    for thread in threads:
        thread.join()
    found += host.answered()
    assert sum(answered.counts.requests for answered in found) == 3 * rounds
    assert sum(answered.counts.over_budget for answered in found) == 3 * rounds
    assert first.freed
    host.close()


# --- messages -------------------------------------------------------------------------------------------------------
def source(posted: list[Health], answered: list[Answered], **more: object) -> HealthSource:
    return HealthSource(posted.append, lambda: [answered.pop(0) for _ in range(len(answered))], **more)  # type: ignore[arg-type]


def test_a_message_holds_counts_crashes_and_shadow_of_a_version() -> None:
    posted: list[Health] = []
    counts = Statistics(requests=4, errors=1, over_budget=2, buckets=(0, 3, *[0] * 238))
    shadow = ShadowHealth(version=3, compared=2)
    telling = source(
        posted,
        [Answered("digits", 2, counts)],
        crashes=lambda: [Crash(model="digits", version=2), Crash(model="faces", version=1, count=5)],
        shadows=lambda: [(("digits", 2), shadow)],
    )
    telling.tell(crashes=True)
    assert posted == [
        Health(
            versions=[
                VersionHealth(
                    model="digits", version=2, requests=4, errors=1, over_budget=2, crashes=1, latency=[(1, 3)],
                    shadow=shadow,
                ),
                VersionHealth(model="faces", version=1, crashes=5),
            ]
        )
    ]  # fmt: skip


def test_nothing_to_tell_is_no_message_and_many_versions_are_several() -> None:
    posted: list[Health] = []
    source(posted, []).tell(crashes=True)
    assert posted == []
    source(posted, [Answered("digits", n, Statistics(requests=1)) for n in range(1, 71)]).tell()
    assert [len(health.versions) for health in posted] == [32, 32, 6]


def test_one_version_that_was_loaded_twice_is_told_twice_in_one_message() -> None:
    posted: list[Health] = []
    source(posted, [Answered("digits", 1, Statistics(requests=n)) for n in (1, 2)]).tell()
    assert sorted(version.requests for version in posted[0].versions) == [1, 2]


# --- crashes --------------------------------------------------------------------------------------------------------
def test_a_run_that_did_not_end_is_a_crash_of_what_is_active(paths: AgentPaths) -> None:
    RunMarker(paths, BOOT).begin()
    found = RunMarker(paths, BOOT)
    found.begin()
    assert found.take() == [Crash(model="digits", version=1)]
    assert found.take() == []


def test_crashes_add_up_until_they_are_told_and_are_told_once(paths: AgentPaths) -> None:
    for _ in range(4):
        RunMarker(paths, BOOT).begin()
    told = RunMarker(paths, BOOT)
    told.begin()
    assert told.take() == [Crash(model="digits", version=1, count=4)]
    again = RunMarker(paths, BOOT)
    again.begin()
    assert again.take() == [Crash(model="digits", version=1)]


def test_an_orderly_end_is_no_crash_but_keeps_what_is_not_told(paths: AgentPaths) -> None:
    RunMarker(paths, BOOT).begin()
    second = RunMarker(paths, BOOT)
    second.begin()
    second.end()
    third = RunMarker(paths, BOOT)
    third.begin()
    assert third.take() == [Crash(model="digits", version=1)]
    third.end()
    assert not paths.running.exists()


def test_a_machine_that_was_switched_off_is_no_crash(paths: AgentPaths) -> None:
    RunMarker(paths, "the boot before").begin()
    found = RunMarker(paths, BOOT)
    found.begin()
    assert found.take() == []


def test_a_damaged_marker_or_a_missing_pointer_counts_nothing_and_stops_nothing(paths: AgentPaths) -> None:
    RunMarker(paths, BOOT).begin()
    paths.model("digits").current.unlink()
    found = RunMarker(paths, BOOT)
    found.begin()
    assert found.take() == []
    paths.running.write_bytes(b"\x00")
    found.begin()
    assert found.take() == []


def test_a_crash_that_cannot_be_taken_from_the_disk_is_not_told(
    paths: AgentPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunMarker(paths, BOOT).begin()
    found = RunMarker(paths, BOOT)
    found.begin()
    with monkeypatch.context() as broken:
        broken.setattr(AgentPaths, "running", property(lambda _paths: Path("/nowhere/running.json")))
        assert found.take() == []
    assert found.take() == [Crash(model="digits", version=1)]


# --- the daemon -----------------------------------------------------------------------------------------------------
async def told(paths: AgentPaths) -> list[VersionHealth]:
    """What waits in the outbox of an agent that has ended."""
    outbox = Outbox(paths.outbox, device_id="dev1", limit_bytes=1 << 24, clock=SystemClock())
    await outbox.start()
    messages = await outbox.pending(0, count=100_000, limit_bytes=1 << 30)
    await outbox.close()
    bodies = [decode_body(decode_envelope(message.data)) for message in messages]
    return [version for body in bodies if isinstance(body, Health) for version in body.versions]


def until_more(agent: RunningAgent, paths: AgentPaths, kind: str, before: int = 0) -> None:
    """Wait until more than `before` messages of a kind are on the disk."""
    deadline = time.monotonic() + 60
    while waiting(paths, kind) <= before:
        assert time.monotonic() < deadline, agent.log()
        time.sleep(0.02)


def waiting(paths: AgentPaths, kind: str) -> int:
    if not paths.outbox.exists():
        return 0
    with closing(sqlite3.connect(f"file:{paths.outbox}?mode=ro", uri=True)) as file:
        try:
            return int(file.execute("SELECT count(*) FROM messages WHERE kind = ?", [kind]).fetchone()[0])
        except sqlite3.OperationalError:  # the agent has not made the table yet
            return 0


async def test_kill_9_is_told_as_a_crash_of_the_version_and_an_orderly_stop_is_not(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    give_identity(paths)
    install_digits(paths)
    paths.settings.write_text(TELLS_OFTEN)
    for end in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        with running(paths) as agent:
            before = waiting(paths, "health")
            agent.predict()
            until_more(agent, paths, "health", before)
            agent.stop(end)
    found = await told(paths)
    assert sum(version.crashes for version in found) == 1
    assert sum(version.requests for version in found) == 3
    assert {(version.model, version.version) for version in found} == {("digits", 1)}


async def test_what_was_counted_since_the_last_beat_is_told_at_an_orderly_end(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    give_identity(paths)
    install_digits(paths)
    paths.settings.write_text("telemetry_interval_s: 3600\n")
    with running(paths) as agent:
        until_more(agent, paths, "heartbeat")
        for _ in range(3):
            agent.predict()
        agent.stop()
    assert sum(version.requests for version in await told(paths)) == 3
