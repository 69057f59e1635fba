"""A fleet of real processes in one folder: `skerry-hub serve`, which may be killed and started again, and agents."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx

from agent.outbox.rows import Item, State
from agent.outbox.store import OutboxStore
from agent.paths import AgentPaths
from hub.settings import NatsSettings
from shared.limits import MIB
from shared.wire.up import Event, encode_body
from tests.daemon.device import install_digits
from tests.hub_kit import data_hub
from tests.ports import free_ports

DEADLINE_S = 120.0
PROFILE = "x86-gateway"
QUICK = """\
telemetry_interval_s: 0.1
link:
  retry_base_s: 0.05
  retry_cap_s: 0.3
  stall_base_s: 0.5
  stall_cap_s: 1.0
  fallback_after_s: 0.5
  fallback_interval_s: 0.3
"""


def until(condition: Any, what: str, seconds: float = DEADLINE_S) -> None:
    """Wait for a truth that is behind files, processes and sockets."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, what
        sleep(0.02)


class HubFolder:
    """A hub's data folder on ports of its own."""

    def __init__(self, parent: Path) -> None:
        self.data = parent / "hub"
        self.log = parent / "hub.log"
        https, mqtt, nats = free_ports(3)
        settings = {"port": https, "mqtt_port": mqtt, "nats": {"port": nats}}
        self.data.mkdir(parents=True)
        (self.data / "hub.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
        with data_hub(parent, port=https, mqtt_port=mqtt, nats=NatsSettings(port=nats)):
            pass  # provisioned, with trust initialised
        self.facts: dict[str, Any] = {}
        self.environ: dict[str, str] = {}

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """The hub, heard by people and devices; killed with -9 at the end of the block."""
        command = [sys.executable, "-m", "hub.main", "serve", "--data", str(self.data), "--json"]
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **self.environ}
            ) as process,
        ):
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, self.log.read_text()
                self.facts = json.loads(line)
                yield process
            finally:
                process.kill()

    def client(self) -> httpx.Client:
        """The administrator's."""
        token = Path(self.facts["admin_token_file"]).read_text().strip()
        tls = ssl.create_default_context(cafile=self.facts["ca_file"])
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.facts["url"], verify=tls, headers=headers, timeout=20)

    def enrol(self, paths: AgentPaths, device_id: str) -> None:
        """A device that has joined and has a model."""
        self.join(paths, device_id)
        install_digits(paths)

    def join(self, paths: AgentPaths, device_id: str, profile: str = PROFILE) -> None:
        """By the device's own command, with the join string that the hub makes."""
        with self.client() as admin:
            answer = admin.post("/v1/enrolment-tokens", json={"device_id": device_id}).raise_for_status()
        wish = (answer.json()["join"], "--profile", profile, "--state", str(paths.root))
        command = [sys.executable, "-m", "agent.main", "enrol", *wish]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr
        paths.settings.write_text(QUICK)


@contextmanager
def outbox(paths: AgentPaths) -> Iterator[OutboxStore]:
    """A device's outbox while its agent is not running."""
    store = OutboxStore(paths.outbox, limit_bytes=64 * MIB, new_epoch="0" * 15 + "1")
    try:
        yield store
    finally:
        store.close()


def put_events(paths: AgentPaths, codes: list[str]) -> None:
    """Events in the outbox, as if they had gathered while the device was out of reach."""
    items = [Item(kind="event", created_s=1.0, body=encode_body(Event(code=code, message=""))) for code in codes]
    with outbox(paths) as store, store.transaction():
        store.add(items)


def outbox_state(paths: AgentPaths) -> State:
    """The outbox's counters, after the agent has ended."""
    with outbox(paths) as store:
        return store.state
