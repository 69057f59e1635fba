"""One simulated device: the agent's own link, and what a daemon does around it, without disk and without a model.

Rules: at its start, and after each crash, inventory and heartbeat come first; then a heartbeat every interval with the
agent's jitter, the health of its versions beside it, and at once when a version gives way. Reports leave in the order
in which they were made.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from agent.identity.store import Credentials, Identity
from agent.link.connection import Connector
from agent.link.link import Link
from agent.ota.intake import peek
from agent.ota.machine import REST
from agent.settings import LinkSettings
from scripts.fleet_sim_app.fate import Fate, fate_of
from scripts.fleet_sim_app.figures import Figures
from scripts.fleet_sim_app.https import DeviceHttps
from scripts.fleet_sim_app.lane import Lane, LaneParts
from scripts.fleet_sim_app.memory import FixedIdentity, MemoryDocuments, MemoryOutbox
from scripts.fleet_sim_app.scenario import Scenario
from scripts.fleet_sim_app.serving import Load, Serving
from scripts.fleet_sim_app.wires import SwitchedConnector
from shared import __version__
from shared.clock import Clock
from shared.errors import InvalidInput
from shared.profiles import Profile
from shared.wire.down import Assignment, DesiredState
from shared.wire.health import Health
from shared.wire.up import Event, Heartbeat, InstallReport, Inventory

__all__ = ["SimDevice", "World"]

_JITTER = 0.1
_RESTART_S = 0.2
_OUTBOX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class World:
    """What all devices share."""

    scenario: Scenario
    seed: int
    hub_url: str
    profiles: dict[str, Profile]
    connector: Connector
    link: LinkSettings
    opening: asyncio.Semaphore
    requesting: asyncio.Semaphore
    figures: Figures
    clock: Clock


class SimDevice:
    """One device from its start to its end."""

    def __init__(self, identity: Identity, credentials: Credentials, world: World) -> None:
        self.device_id, self.profile = identity.device_id, identity.profile
        self._world = world
        self._hardware_id = identity.hardware_id
        self._random = Random(f"{world.seed}:{self.device_id}")
        self._wires = SwitchedConnector(world.connector, world.opening, world.figures)
        self._https = DeviceHttps(
            world.hub_url, credentials, world.requesting, world.figures, lambda: self._wires.reachable
        )
        self.outbox = MemoryOutbox(
            self.device_id, limit_bytes=_OUTBOX_BYTES, clock=world.clock, new_epoch=self._new_epoch
        )
        self.documents = MemoryDocuments(self.device_id)
        self.reports: list[InstallReport] = []
        self.lanes: dict[str, Lane] = {}
        self._serving: list[Serving] = []
        self._began_s = world.clock.monotonic()
        self._tasks: asyncio.TaskGroup | None = None
        self._crashing: dict[str, asyncio.Task[None]] = {}
        self.link = Link(
            store=FixedIdentity(identity, credentials),
            outbox=self.outbox,
            desired=self.documents,
            connector=self._wires,
            fallback=self._https,
            on_desired=self._take,
            clock=world.clock,
            settings=world.link,
            random=self._random.random,
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self.link.run(), name=f"{self.device_id} link")
            tasks.create_task(self._beat(), name=f"{self.device_id} beat")

    def serves(self, model: str, version: int) -> bool:
        """Whether this version serves."""
        lane = self.lanes.get(model)
        active = lane.slots.get(lane.active) if lane is not None and lane.active is not None else None
        return active is not None and active.version == version

    def decided(self, model: str, version: int) -> bool:
        """Whether the installation of this version has come to its end, good or bad."""
        lane = self.lanes.get(model)
        assignment = lane.journal.assignment if lane is not None else None
        return lane is not None and assignment is not None and assignment.version == version and lane.journal.at in REST

    @property
    def settled(self) -> bool:
        """Whether the hub has confirmed every message."""
        state = self.outbox.state
        return state.watermark == state.next_seq - 1

    async def set_reachable(self, reachable: bool) -> None:
        """Take the network away or give it back."""
        self._wires.reachable = reachable
        if reachable:
            self.link.reconnect()
        else:
            await self._wires.cut()

    async def block_mqtt(self, blocked: bool) -> None:
        """Take MQTT away, as a firewall does, or give it back; HTTPS stays."""
        self._wires.blocked = blocked
        if blocked:
            await self._wires.cut()
        else:
            self.link.reconnect()

    def say(self, code: str) -> None:
        """Post an event of no importance."""
        self._post(Event(code=code, message="From the simulator."))

    async def cut(self) -> None:
        """End the present connection; the device comes back by itself."""
        await self._wires.cut()

    def _new_epoch(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    # --- messages -----------------------------------------------------------------------------------------------------
    def _post(self, body: Event | Heartbeat | Inventory | Health | InstallReport) -> None:
        self._world.figures.posted += 1
        self.outbox.post(body)

    def _report(self, message: InstallReport) -> None:
        self.reports.append(message)
        self._post(message)

    async def _beat(self) -> None:
        interval_s = self._world.scenario.telemetry_interval_s
        self._start()
        while True:
            await asyncio.sleep(interval_s * (1.0 + _JITTER * (2.0 * self._random.random() - 1.0)))
            self._post(self._heartbeat())
            self._tell_health()

    def _start(self) -> None:
        """What an agent says first."""
        self._began_s = self._world.clock.monotonic()
        self._post(self._inventory())
        self._post(self._heartbeat())

    def _tell_health(self) -> None:
        for serving in self._serving:
            serving.count(self._world.clock.monotonic())
        versions = [told for serving in self._serving for told in serving.take_health()]
        if versions:
            self._post(Health(versions=versions))

    def _inventory(self) -> Inventory:
        profile = self._world.profiles[self.profile]
        return Inventory(
            profile=profile.name,
            agent_version=__version__,
            runtime=profile.runtime.package,
            runtime_version=profile.runtime.min_version,
            arch=profile.arch,
            os="simulated",
            python="3.11",
            cpu_count=4,
            memory_bytes=profile.memory_bytes,
            storage_bytes=profile.storage_bytes,
            hardware_id=self._hardware_id,
        )

    def _heartbeat(self) -> Heartbeat:
        state = self.outbox.state
        return Heartbeat(
            agent_version=__version__,
            uptime_s=int(self._world.clock.monotonic() - self._began_s),
            rss_bytes=60_000_000,
            disk_free_bytes=self._world.profiles[self.profile].storage_bytes // 2,
            outbox_count=state.pending_count,
            outbox_dropped=state.dropped_count,
            models=[lane.status() for lane in self.lanes.values()],
        )

    # --- what it should run -------------------------------------------------------------------------------------------
    async def _take(self, desired: DesiredState) -> None:
        named: set[str] = set()
        for envelope in desired.assignments:
            try:
                assignment = peek(envelope)
            except InvalidInput as error:
                self._post(Event(code=error.code[:64], severity="error", message=error.message[:500]))
                continue
            named.add(assignment.model)
            self._lane(assignment.model).offer(assignment)
        for model, lane in self.lanes.items():
            if model not in named:
                lane.withdraw()

    def _lane(self, model: str) -> Lane:
        lane = self.lanes.get(model)
        if lane is None:
            world, profile = self._world, self._world.profiles[self.profile]
            serving = Serving(model, Load(world.scenario.requests_per_s, profile.latency_p99_ms), self._random)
            self._serving.append(serving)
            parts = LaneParts(
                fetch=self._fetch,
                report=self._report,
                fate=self._fate,
                serving=serving,
                budget_ms=profile.latency_p99_ms,
                probe_s=world.scenario.probe_s,
                clock=world.clock,
                random=self._random.random,
                swapped=lambda: self._swapped(model),
            )
            lane = self.lanes[model] = Lane(model, parts)
            if self._tasks is not None:
                self._tasks.create_task(lane.run(), name=f"{self.device_id} {model}")
        return lane

    async def _fetch(self, assignment: Assignment, fate: Fate) -> int:
        return await self._https.fetch(assignment, fate)

    def _fate(self, version: int) -> Fate:
        world = self._world
        return fate_of(world.scenario, world.seed, self.device_id, self.profile, version)

    def _swapped(self, model: str) -> None:
        """A version gave way: its health is told, and the crashes of the new one begin."""
        self._tell_health()
        self._expect_crash(model)

    def _expect_crash(self, model: str) -> None:
        before = self._crashing.pop(model, None)
        if before is not None:
            before.cancel()
        lane = self.lanes[model]
        active = lane.slots.get(lane.active) if lane.active is not None else None
        crash = self._fate(active.version).crash if active is not None else None
        if crash is not None and self._tasks is not None:
            doing = self._crash_after(model, crash.after_s)
            self._crashing[model] = self._tasks.create_task(doing, name=f"{self.device_id} crash")

    async def _crash_after(self, model: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._crashing.pop(model, None)
        self._world.figures.crashes += 1
        for serving in self._serving:
            serving.count(self._world.clock.monotonic())
            serving.crashed()
        await self._wires.cut()
        await asyncio.sleep(_RESTART_S)
        self.link.reconnect()
        for lane in list(self.lanes.values()):
            lane.crashed()
        self._start()
        self._tell_health()
        if model not in self._crashing:
            self._expect_crash(model)
