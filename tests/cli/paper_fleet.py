"""Devices without an agent, for tests of the command line: enrolled, with reports that go through the hub's ingest.

    fleet = PaperFleet(running_hub, "digits-x")      # a model with approved versions
    fleet.release(1); fleet.enrol(3)
    fleet.settle()                                    # the engine runs, devices install what they were given
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import select

from hub.ingest.service import Received
from hub.store import registry, schema
from hub.store.registry import Status
from shared.wire.up import Envelope, InstallReport, encode_body, encode_envelope
from tests.cli.rig import RunningHub, Skerry
from tests.fleet_kit import tiny_bundle

__all__ = ["PaperFleet"]


class PaperFleet:
    """Some devices and one model. `tag`: what the devices have in common, as `site`."""

    def __init__(self, running: RunningHub, skerry: Skerry, folder: Path) -> None:
        self.hub = running.hub
        self.tag = f"s{secrets.token_hex(4)}"
        self.model = f"m-{self.tag}"
        self.devices: list[str] = []
        self.refusing: Collection[str] = ()
        self._running, self._skerry, self._folder = running, skerry, folder
        self._seq: dict[str, int] = {}
        self._done: dict[str, int] = {}
        running.create_model(self.model)

    def release(self, version: int) -> None:
        """Register and approve a version."""
        path = self._folder / f"{version}.bundle"
        tiny_bundle(path, version, self.model)
        writer = self.hub.versions.receive()
        try:
            writer.write(path.read_bytes())
            self.hub.versions.register(self.model, writer, "dana")
        finally:
            writer.discard()
        with self.hub.db.write() as connection:
            row = registry.get_version(connection, self.model, version)
            registry.set_status(connection, row, Status.GATED, self.hub.clock.now())
        self._running.approve(self.model, version)

    def enrol(self, count: int) -> None:
        """Let devices in, tagged alike."""
        for _ in range(count):
            name = f"pi-{self.tag}-{len(self.devices)}"
            made = self._skerry.json("devices", "token", "--device", name, "--tag", f"site={self.tag}")
            self._running.enrol(name, made["token"])
            self.devices.append(name)

    def settle(self, rounds: int = 6) -> None:
        """Let the engine and the devices take turns."""
        for _ in range(rounds):
            self.hub.rollout_engine.run()
            self.answer()
        self.hub.rollout_engine.run()

    def answer(self) -> None:
        """Each device tries what it was given last: it serves it, or, when it is `refusing`, goes back and says why."""
        for device in self.devices:
            for assignment, _ in self.hub.desired.signed_assignments(device):
                if assignment.model == self.model and assignment.counter > self._done.get(device, 0):
                    self._done[device] = assignment.counter
                    self._report(device, assignment.version, assignment.bundle_sha256, assignment.counter)

    def _report(self, device: str, version: int, digest: str, counter: int) -> None:
        bad = device in self.refusing
        report = InstallReport(
            model=self.model,
            version=version,
            bundle_sha256=digest,
            assignment_counter=counter,
            previous="rolling_back" if bad else "probation",
            state="rolled_back" if bad else "committed",
            event="done",
            reason_code="probe.golden" if bad else "",
            reason="The golden outputs differ by 0.4." if bad else "",
            active_version=self._serving(device) if bad else version,
        )
        seq = self._seq[device] = self._seq.get(device, 0) + 1
        envelope = Envelope(
            device_id=device,
            epoch="a" * 16,
            first_seq=seq,
            seq=seq,
            created_s=self.hub.clock.now(),
            kind="install",
            body=encode_body(report),
        )
        self.hub.ingest.commit([Received(device, encode_envelope(envelope))])

    def _serving(self, device: str) -> int | None:
        table = schema.device_models
        query = select(table.c.version).where(table.c.device_id == device, table.c.model == self.model)
        with self.hub.db.read() as connection:
            return connection.scalar(query)

    def serving(self) -> list[int | None]:
        """What each device serves."""
        return [self._serving(device) for device in self.devices]
