"""A device for the installer's tests: a state folder enrolled at a `HubSim`, a real model host, and an installer.

`device.run()` is the agent's life between two starts; leaving the block is an orderly stop, and a `PowerCut` raised
by the watcher of the journal is a cut right after that write. Work in the worker runs in this process
(`in_process=True`: same code, no start-up time) or in real children.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from agent.inference.host import ModelHost
from agent.ota.installer import Installer, InstallStatus
from agent.ota.journal import Journal
from agent.ota.ports import Message, Shadow
from agent.ota.probe import ProbeResult
from agent.ota.settings import OtaSettings
from agent.ota.worker import Worker
from agent.ota.worker_protocol import Failed, Request
from agent.paths import AgentPaths
from shared.clock import Clock, SystemClock
from shared.errors import SkerryError
from shared.profiles import Profile, load_profile
from shared.wire.down import DesiredState
from shared.wire.up import Event, InstallReport
from tests.models import load_digits
from tests.ota.hub_sim import DEVICE, HubSim

__all__ = ["QUICK", "Device", "PowerCut", "is_message"]

T = TypeVar("T")
QUICK = OtaSettings(
    retry_base_s=0.01,
    retry_cap_s=0.05,
    max_attempts=4,
    transfer_retry_base_s=0.01,
    transfer_retry_cap_s=0.05,
    transfer_max_attempts=3,
    connect_timeout_s=5.0,
    read_timeout_s=5.0,
    probation_tick_s=0.02,
    probe_runs=5,
    held_tick_s=0.02,
)
_PATIENCE_S = 60.0


class PowerCut(BaseException):
    """The power goes: nothing after this point happens."""


class InProcessWorker:
    """The worker's own code in a thread of this process."""

    def __init__(self, paths: AgentPaths, settings: OtaSettings) -> None:
        self._worker = Worker(paths, settings, io.BytesIO())

    async def ask(
        self, request: Request, kind: type[T], timeout_s: float, progress: Callable[[int], None] | None = None
    ) -> T:
        reply = await asyncio.to_thread(self._worker.answer, request)
        if isinstance(reply, Failed):
            body = reply.error
            raise SkerryError(body.code, body.message, retriable=body.retriable)
        assert isinstance(reply, kind)
        return reply

    async def close(self) -> None:
        """Nothing to end."""


class AcceptingProbe:
    """A trial that every version passes."""

    async def probe(self, directory: Path) -> ProbeResult:
        return ProbeResult(golden_passed=True)


@dataclass
class Device:
    """One device. `messages` is what reached its outbox over all its lives."""

    hub: HubSim
    root: Path
    settings: OtaSettings = QUICK
    in_process: bool = True
    more: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    shadow: Callable[[ModelHost], Shadow] | None = None
    messages: list[Message] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    cut: Callable[[Journal], bool] = lambda journal: False
    revision: int = 0

    def __post_init__(self) -> None:
        self.paths = AgentPaths(self.root)
        self.hub.enrol(self.paths)
        self.profile: Profile = msgspec.structs.replace(
            load_profile("x86-gateway"), min_free_bytes=1, latency_p99_ms=60_000.0
        )
        self.host = ModelHost()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def _said(self, message: Message) -> None:
        self.messages.append(message)
        self._changed.set()

    def _observe(self, journal: Journal) -> None:
        self.journals.append(journal)
        self._changed.set()
        if self.cut(journal):
            raise PowerCut

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Installer]:
        """Start the agent's installer over the state folder; stop it at the end of the block."""
        self.host = ModelHost()
        seams: dict[str, Any] = {}
        if self.in_process:
            seams["open_worker"] = lambda: InProcessWorker(self.paths, self.settings)
            seams["probe"] = AcceptingProbe()
        if self.shadow is not None:
            seams["shadow"] = self.shadow(self.host)
        self.installer = Installer(
            self.paths,
            self.profile,
            self.host,
            self._said,
            self.clock,
            self.settings,
            observe=self._observe,
            **seams | self.more,
        )
        await self.installer.recover()
        self._task = asyncio.create_task(self.installer.run())
        await asyncio.sleep(0)  # the loop is entered: a stop from here on is an orderly one
        try:
            yield self.installer
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})
            self.host.close()

    async def assign(self, *envelopes: bytes) -> None:
        """The hub's next desired state holds these assignments."""
        self.revision += 1
        await self.installer.offer(DesiredState(device_id=DEVICE, revision=self.revision, assignments=list(envelopes)))

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait until the condition holds after some message or journal write; the run's own failure ends it."""
        assert self._task is not None
        async with asyncio.timeout(_PATIENCE_S):
            while not (found := condition()):
                self._changed.clear()
                change = asyncio.create_task(self._changed.wait())
                await asyncio.wait({change, self._task}, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
                change.cancel()
                if self._task.done():
                    self._task.result()
            return found

    async def until_state(self, *states: str, counter: int | None = None, model: str = "digits") -> InstallStatus:
        """Wait until a model rests in one of the states and the hub was told."""

        def settled() -> InstallStatus | None:
            for status in self.installer.status():
                fits = status.model == model and status.state in states
                if fits and (counter is None or status.assignment_counter >= counter):
                    told = self.reports(model)
                    return status if told and told[-1].state == status.state else None
            return None

        found = await self.until(settled)
        assert found is not None
        return found

    def reports(self, model: str = "digits") -> list[InstallReport]:
        """The installation reports so far."""
        return [m for m in self.messages if isinstance(m, InstallReport) and m.model == model]

    def states(self, counter: int) -> list[str]:
        """The states that the hub was told for one assignment."""
        return [report.state for report in self.reports() if report.assignment_counter == counter]

    def events(self) -> list[str]:
        """The codes of the events so far."""
        return [message.code for message in self.messages if isinstance(message, Event)]

    def active(self, model: str = "digits") -> str:
        """What the pointer names, read from the disk; empty when there is none."""
        path = self.paths.model(model).current
        return path.read_text().strip() if path.exists() else ""

    def serves(self, model: str = "digits") -> int:
        """The version that answers a real prediction; 0 when none does."""
        if self.host.serving(model) is None:
            return 0
        probabilities = self.host.predict(model, load_digits().test_x[:4])
        assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3)
        return self.host.current(model).manifest.version


def is_message(kind: type[Message], message: Message) -> bool:
    """For filters."""
    return isinstance(message, kind)
