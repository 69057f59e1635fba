"""The daemon as a real process: it serves first, stays lean, survives, and ends in order."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from agent.outbox.store import OutboxStore
from agent.paths import AgentPaths
from shared.wire.down import DesiredState, decode_desired
from shared.wire.system import System
from shared.wire.up import Heartbeat, Inventory, decode_body
from tests.daemon.device import give_identity, install_digits, running
from tests.link.mqtt_hub import MqttHub
from tests.models import load_digits


@pytest.fixture
def paths(tmp_path: Path) -> AgentPaths:
    made = AgentPaths(tmp_path / "state")
    give_identity(made)
    return made


def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + 30
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def start(paths: AgentPaths) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "--state", str(paths.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_installed_model_is_served_without_any_network(paths: AgentPaths) -> None:
    install_digits(paths)
    with running(paths) as agent:
        data = load_digits()
        hits = sum(agent.predict(index) == data.test_y[index] for index in range(50))
        assert hits >= 44
        status = agent.ask("/skerry/status")
        assert [(model["model"], model["active_version"]) for model in status["models"]] == [("digits", 1)]
        assert agent.stop() == 0
    assert not paths.socket.exists()


def test_it_serves_again_after_kill_9(paths: AgentPaths) -> None:
    install_digits(paths)
    for _ in range(3):
        with running(paths) as agent:
            assert agent.predict() == load_digits().test_y[0]
            agent.stop(signal.SIGKILL)


def test_a_device_without_models_is_up_and_says_so(paths: AgentPaths) -> None:
    with running(paths) as agent:
        assert agent.ask("/skerry/status")["models"] == []
        assert agent.ask("/v2/health/live")["live"] is True


def test_only_one_daemon_uses_a_folder(paths: AgentPaths) -> None:
    with running(paths) as agent:
        agent.ask("/skerry/status")
        second = start(paths)
        assert second.returncode == 5
        assert "agent.already_running" in second.stderr
        assert agent.ask("/v2/health/live")["live"] is True


def test_a_device_that_is_not_enrolled_says_what_to_do(tmp_path: Path) -> None:
    done = start(AgentPaths(tmp_path / "state"))
    assert done.returncode == 4
    assert "skerry-agent enrol" in done.stderr


def test_a_wrong_setting_is_named(paths: AgentPaths) -> None:
    paths.settings.write_text("telemetry_intervals_s: 5\n")
    done = start(paths)
    assert done.returncode == 2
    assert "telemetry_intervals_s" in done.stderr


def test_a_damaged_outbox_and_a_damaged_desired_state_do_not_stop_the_predictions(paths: AgentPaths) -> None:
    install_digits(paths)
    paths.outbox.write_bytes(os.urandom(50_000))
    paths.desired.write_bytes(os.urandom(100))
    with running(paths) as agent:
        assert agent.predict() == load_digits().test_y[0]
        until(lambda: agent.ask("/skerry/status")["hub"]["outbox_count"] >= 3)


def test_without_an_outbox_the_device_still_serves_and_learns_its_desired_state(
    paths: AgentPaths, tmp_path: Path
) -> None:
    install_digits(paths)
    paths.outbox.mkdir()
    with MqttHub(tmp_path / "broker") as hub:
        hub.adopt(paths)
        hub.publish(DesiredState(device_id="dev1", revision=9))
        with running(paths) as agent:
            assert agent.predict() == load_digits().test_y[0]
            until(lambda: agent.ask("/skerry/status")["hub"]["desired_revision"] == 9)
            paths.outbox.rmdir()
            hub.wait_for("inventory")


def test_a_socket_path_that_the_kernel_cannot_take_is_explained(tmp_path: Path) -> None:
    done = start(AgentPaths(tmp_path / ("x" * 120)))
    assert done.returncode == 2
    assert "agent.state_path" in done.stderr


def test_a_taken_loopback_port_does_not_stop_the_socket(paths: AgentPaths, tmp_path: Path) -> None:
    install_digits(paths)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running(paths, f"--api-port={taken.getsockname()[1]}") as agent,
    ):
        assert agent.predict() == load_digits().test_y[0]
        until(lambda: "Choose another port" in agent.log())


def test_what_waits_at_the_end_is_on_the_disk(paths: AgentPaths) -> None:
    with running(paths) as agent:
        until(lambda: agent.ask("/skerry/status")["hub"]["outbox_count"] >= 2)
        assert agent.stop() == 0
    store = OutboxStore(paths.outbox, limit_bytes=1 << 20, new_epoch="0" * 16)
    kinds = {row.kind for row in store.read(0, count=-1, limit_bytes=None)}
    store.close()
    assert kinds >= {"inventory", "heartbeat"}


def test_inventory_and_heartbeats_reach_the_hub_and_leave_the_outbox(paths: AgentPaths, tmp_path: Path) -> None:
    install_digits(paths)
    paths.settings.write_text("telemetry_interval_s: 0.1\n")
    with MqttHub(tmp_path / "broker") as hub:
        hub.adopt(paths)
        hub.publish(DesiredState(device_id="dev1", revision=5))
        with running(paths) as agent:
            for index in range(7):
                agent.predict(index)
            inventory = decode_body(hub.wait_for("inventory")[0])
            assert isinstance(inventory, Inventory)
            assert inventory.profile == "x86-gateway"
            bodies = [decode_body(envelope) for envelope in hub.wait_for("heartbeat", 5)]
            machines = [body.system for body in bodies if isinstance(body, Heartbeat)]
            links = [one for one in machines if isinstance(one, System) and one.link == "mqtt"]
            assert any(one.link_rtt_s for one in links), "measured on the way"
            until(lambda: agent.ask("/skerry/status")["hub"]["desired_revision"] == 5)
            status = agent.ask("/skerry/status")["hub"]
            assert status["connected"]
            assert agent.stop() == 0
        requests = sum(body.models[0].requests for body in bodies if isinstance(body, Heartbeat))
        assert 0 < requests <= 7
    assert decode_desired(paths.desired.read_bytes()).revision == 5
    assert hub.ledger.log == [(seq, seq) for seq in range(1, len(hub.ledger.log) + 1)]


def test_messages_survive_a_broker_that_comes_late_and_an_agent_that_is_killed(
    paths: AgentPaths, tmp_path: Path
) -> None:
    paths.settings.write_text("telemetry_interval_s: 0.05\n")
    with MqttHub(tmp_path / "broker") as hub:
        hub.adopt(paths)
        hub.broker.stop()
        with running(paths) as agent:
            until(lambda: agent.ask("/skerry/status")["hub"]["outbox_count"] >= 10)
            agent.stop(signal.SIGKILL)
        hub.broker.start()
        with running(paths) as agent:
            hub.wait_for("heartbeat", 20)
            until(lambda: agent.ask("/skerry/status")["hub"]["outbox_count"] <= 2)
        assert hub.ledger.log == [(seq, seq) for seq in range(1, len(hub.ledger.log) + 1)]


_LEAN = """
import asyncio, sys
from pathlib import Path
from agent.daemon import Daemon
from agent.identity.store import IdentityStore
from agent.paths import AgentPaths
from agent.settings import AgentSettings
from shared.clock import SystemClock
from shared.profiles import load_profile

async def main():
    paths = AgentPaths(Path(sys.argv[1]))
    identity = IdentityStore(paths.identity).load()
    settings = AgentSettings(telemetry_interval_s=0.05)
    daemon = Daemon(paths, identity, load_profile(identity.profile), settings, clock=SystemClock(), random=lambda: 0.5)
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    async with asyncio.timeout(30):
        while (await daemon.status()).hub.outbox_count < 4:
            await asyncio.sleep(0.02)
    stop.set()
    await running
    print("\\n".join(sorted({name.partition(".")[0] for name in sys.modules})))

asyncio.run(main())
"""


def test_the_running_daemon_has_not_imported_what_belongs_into_children(paths: AgentPaths) -> None:
    install_digits(paths)
    paths.run.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _LEAN, str(paths.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert {"paho", "sqlite_utils", "numpy", "uvicorn"} <= loaded
    heavy = {"tuf", "securesystemslib", "cryptography", "httpx", "typer", "rich", "flwr", "hub", "pydantic", "scipy"}
    assert heavy & loaded == set()
