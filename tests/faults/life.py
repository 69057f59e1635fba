"""A life of the agent over a state folder: installer, outbox and desired document together as in the daemon.

`living` starts what the daemon starts, in its order, and watches the promise meanwhile: from the first version on
there is a valid active slot at every instant, and what serves predicts what that version predicts. A broken promise is
a `Broken`, and so is a life that does not converge in time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import numpy as np

from agent.inference.host import ModelHost
from agent.link.desired import DesiredStore
from agent.ota import journal
from agent.ota.installer import Installer, InstallStatus
from agent.ota.machine import REST, State
from agent.ota.ports import Host
from agent.ota.probe import ProbeResult
from agent.ota.settings import OtaSettings
from agent.ota.slots import Slots
from agent.ota.worker_protocol import Request
from agent.outbox.outbox import Outbox
from agent.paths import AgentPaths
from shared.clock import Clock, SystemClock
from shared.errors import Conflict, SkerryError
from shared.profiles import Profile, load_profile
from shared.wire.down import Assignment
from shared.wire.up import InstallReport, decode_body, decode_envelope
from tests.faults.aside import aside
from tests.faults.facts import Facts
from tests.ota.device import QUICK, InProcessWorker

__all__ = ["OUTBOX_BYTES", "Broken", "Life", "check_image", "living"]

T = TypeVar("T")
OUTBOX_BYTES = 1024 * 1024
_PATIENCE_S = 40.0
_LOOK_S = 0.005
_CLOSE = 1e-3


class Broken(AssertionError):
    """A promise was broken."""


class WarmProbe:
    """The trial's work in this process: the same model, the same golden inputs, without an interpreter's start."""

    async def probe(self, directory: Path) -> ProbeResult:
        """What the golden inputs gave; `probe.golden_mismatch`, and what loading raises."""
        return await asyncio.to_thread(self._try, directory)

    def _try(self, directory: Path) -> ProbeResult:
        from shared.bundle.archive import read_manifest
        from shared.runtime.model import LoadedModel

        model = LoadedModel.load(directory, read_manifest(directory), 1)
        try:
            golden = model.check_golden()
        finally:
            model.close()
        if not golden.passed:
            raise Conflict("probe.golden_mismatch", "The golden outputs differ.")
        return ProbeResult(golden_passed=True)


class PatientWorker(InProcessWorker):
    """A worker that is given up is waited for, where the real one, a process, is killed: nothing writes afterwards."""

    async def ask(
        self, request: Request, kind: type[T], timeout_s: float, progress: Callable[[int], None] | None = None
    ) -> T:
        asked = asyncio.ensure_future(super().ask(request, kind, timeout_s, progress))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            await asyncio.wait({asked})
            raise


class QuietShadow:
    """A candidate that is asked nothing: its process is not what power cuts are about."""

    async def run(self, model: str, directory: Path, assignment: Assignment, end: asyncio.Event) -> None:
        await end.wait()


def check_image(facts: Facts, root: Path) -> str:
    """The active slot of a state folder, found whole; `Broken` when there is none and a version served before."""
    slots = Slots(AgentPaths(root).model(facts.model))
    active = slots.active()
    if active is None:
        if facts.served:
            raise Broken("the pointer names no slot")
        return ""
    try:
        slots.verify(active)
    except SkerryError as error:
        raise Broken(f"the active slot is not whole: {error}") from error
    return active


@dataclass
class Life:
    """One running agent."""

    facts: Facts
    root: Path
    installer: Installer
    host: ModelHost
    outbox: Outbox
    task: asyncio.Task[None] | None = None
    broken: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Check the promise now."""
        try:
            with aside():
                active = check_image(self.facts, self.root)
                if self.predicts() == 0 and active:
                    raise Broken("there is an active slot, but nothing serves")
        except (Broken, SkerryError) as error:
            self.broken.append(f"{type(error).__name__}: {error}")

    def predicts(self) -> int:
        """The version that serves, after comparing its predictions."""
        model = self.facts.model
        if self.host.serving(model) is None:
            if self.facts.served:
                raise Broken("no version serves")
            return 0
        version = self.host.current(model).manifest.version
        outputs = self.host.predict(model, np.array(self.facts.inputs, np.float32))
        wanted = next(found.outputs for found in self.facts.expected if found.version == version)
        if not np.allclose(outputs, np.array(wanted, np.float32), atol=_CLOSE):
            raise Broken(f"version {version} predicts something else")
        return version

    def status(self) -> InstallStatus | None:
        """The model's status, once it is known."""
        return next((found for found in self.installer.status() if found.model == self.facts.model), None)

    async def until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for a condition; `Broken` when it does not come or the agent's loop ends."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE_S
        while (found := self._now(condition)) is None:
            if self.task is not None and self.task.done():
                self.task.result()
            if loop.time() > end:
                raise Broken(f"{what} did not come; {self.status()}")
            await asyncio.sleep(_LOOK_S)
        return found

    def _now(self, condition: Callable[[], T | None]) -> T | None:
        with aside():
            return condition()

    async def rest(self) -> InstallStatus:
        """Wait until the model rests, and the journal on disk says that the hub was told."""

        def rested() -> InstallStatus | None:
            status = self.status()
            if status is None or status.state not in REST or status.assignment_counter < self.facts.counter:
                return None
            kept = journal.load(AgentPaths(self.root).model(self.facts.model).journal, self.facts.model)
            return status if kept.reported and kept.at in REST else None

        return await self.until(rested, "the rest")

    async def reports(self) -> list[InstallReport]:
        """The installation reports that wait in the outbox."""
        messages = await self.outbox.pending(0, count=100_000, limit_bytes=1 << 30)
        bodies = [decode_body(decode_envelope(message.data)) for message in messages]
        return [body for body in bodies if isinstance(body, InstallReport)]

    def is_held(self) -> bool:
        """Whether what is assigned is ready and waits, by the journal on the disk."""
        kept = journal.load(AgentPaths(self.root).model(self.facts.model).journal, self.facts.model)
        return kept.at is State.HELD

    async def offer(self, document: bytes | None = None) -> None:
        """The hub is reached: what was kept, then its newest document, or the one that is given."""
        newest = self.facts.desired if document is None else document
        store = DesiredStore(AgentPaths(self.root).desired, self.facts.device_id)
        kept = store.load()
        if kept is not None:
            await self.installer.offer(kept)
        if newest and (news := store.accept(newest)) is not None:
            await self.installer.offer(news)


@cache
def _profile() -> Profile:
    """A patient one; read once, as a fork per life would otherwise spend a tenth of its time on YAML."""
    return msgspec.structs.replace(load_profile("x86-gateway"), min_free_bytes=1, latency_p99_ms=60_000.0)


@contextlib.asynccontextmanager
async def living(
    facts: Facts,
    root: Path,
    *,
    warm: bool,
    settings: OtaSettings = QUICK,
    watch: bool = True,
    clock: Clock | None = None,
) -> AsyncIterator[Life]:
    """An agent over `root`, ended in an orderly way. `warm`: worker and trial run in this process."""
    paths, clock, host, profile = AgentPaths(root), clock or SystemClock(), ModelHost(), _profile()
    outbox = Outbox(paths.outbox, device_id=facts.device_id, limit_bytes=OUTBOX_BYTES, clock=clock)
    seams: dict[str, Any] = {"shadow": QuietShadow()}
    if warm:
        seams |= {"open_worker": lambda: PatientWorker(paths, settings), "probe": WarmProbe()}
    lives: list[Life] = []

    def observe(_journal: object) -> None:
        for running in lives:
            running.look()

    installer = Installer(
        paths, profile, cast(Host, host), outbox.post, clock, settings, observe=observe, keep=outbox.put, **seams
    )
    life = Life(facts, root, installer, host, outbox)
    try:
        await installer.recover()
        life.look()
        lives.extend([life] * watch)
        await outbox.start()
        life.task = asyncio.create_task(installer.run())
        await asyncio.sleep(0)
        yield life
        life.look()
    finally:
        if life.task is not None:
            life.task.cancel()
            await asyncio.wait({life.task})
        await outbox.close()
        host.close()
    if watch and life.broken:
        raise Broken("; ".join(life.broken[:3]))
