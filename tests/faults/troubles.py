"""Six troubles that may meet an installation in any state, brought about at the very moment when the state is entered.

The driver is the real one, over a real folder, a real hub and a real model; only the moment is the test's: the journal
is watched, and the trouble comes between its write and the work. What is told afterwards is the chain of states.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from agent.inference.host import ModelHost
from agent.ota.driver import Accepted, Driver
from agent.ota.installation import Installation
from agent.ota.intake import peek
from agent.ota.journal import Journal
from agent.ota.machine import REST, State
from agent.ota.ports import Context, Host, Message
from agent.ota.recovery import recover
from agent.paths import AgentPaths
from shared import durable
from shared.clock import SystemClock
from shared.errors import ErrorBody
from shared.profiles import load_profile
from shared.wire.up import InstallReport
from tests.faults.life import WarmProbe
from tests.ota.device import QUICK, InProcessWorker, PowerCut
from tests.ota.hub_sim import Fault, HubSim

__all__ = ["MODEL", "OPENS_IN_S", "Case", "Trouble", "Told", "live"]

MODEL = "digits"
_PATIENCE_S = 30.0
_DISK_FULL_S = 0.05
_AWAY = 1 + QUICK.transfer_max_attempts + 1
"""Requests that the hub does not answer: those of one attempt (a delta, then the whole) and the first of the next."""
OPENS_IN_S = 6 * 3600
"""When the window of a case in `held` opens, from the start of the case."""
_REFUSED = ErrorBody(code="release.not_approved", message="Not approved.")


class Trouble(StrEnum):
    """What happens."""

    ERROR = "error"
    RESTART = "restart"
    DISK_FULL = "disk full"
    HUB_GONE = "hub gone"
    CANCEL = "cancel"
    NEWER = "newer assignment"


_SLOW = (State.PROBATION, Trouble.ERROR)
_WAY_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.INCONSISTENT})


@dataclass(frozen=True)
class Case:
    """Where the trouble comes: `state` of the installation of the assignment with `counter`."""

    state: State
    trouble: Trouble
    counter: int = 2


@dataclass
class Told:
    """What became of it: states as journalled from the trouble on (with the one that it came in, unless the work is at
    rest or the cut came before the report), states as reported, the version that serves."""

    chain: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    serves: int = 0
    reason_code: str = ""


class _Life:
    """Lives of one driver until the installation rests; the trouble comes once."""

    def __init__(self, case: Case, hub: HubSim, root: Path, newer: bytes) -> None:
        self.case, self.hub, self.paths, self.newer = case, hub, AgentPaths(root), newer
        self.told, self.met, self.seen = Told(), False, (-1, -1, "")
        self.host = ModelHost()
        self.driver: Driver | None = None

    def context(self) -> Context:
        latency_ms = 1e-9 if (self.case.state, self.case.trouble) == _SLOW else 60_000.0
        profile = msgspec.structs.replace(load_profile("x86-gateway"), min_free_bytes=1, latency_p99_ms=latency_ms)

        async def keep(message: Message) -> None:
            self.report(message)

        return Context(
            paths=self.paths,
            profile=profile,
            settings=QUICK,
            host=cast(Host, self.host),
            probe=WarmProbe(),
            open_worker=lambda: InProcessWorker(self.paths, QUICK),
            report=self.report,
            keep=keep,
            clock=self,
            random=lambda: 0.0,
            free_bytes=lambda _path: 1 << 40,
            observe=self.observe,
            busy=asyncio.Lock(),
        )

    def now(self) -> float:
        """The device's clock: by hours later once the trouble has come, so that the window of what is held is open."""
        return SystemClock().now() + (OPENS_IN_S + 60.0 if self.met else 0.0)

    def monotonic(self) -> float:
        return SystemClock().monotonic()

    def report(self, message: Message) -> None:
        if self.met and isinstance(message, InstallReport):
            self.told.reports.append(message.state)

    def observe(self, journal: Journal) -> None:
        seen = (journal.floor, journal.steps, journal.event)
        moved, self.seen = seen != self.seen, seen
        if self.met and moved:
            self.told.chain.append(journal.state)
        if self.met or journal.floor < self.case.counter:
            return
        if self.case.state is State.INCONSISTENT and journal.at is State.ROLLING_BACK:
            _damage(self.paths, State.ROLLING_BACK)
        if journal.at is self.case.state and (journal.reported or journal.at not in REST):
            self.met = True
            if journal.at not in REST and self.case.trouble is not Trouble.RESTART:
                self.told.chain.append(journal.state)
            self.strike()

    def strike(self) -> None:
        """The trouble, now."""
        match self.case.trouble:
            case Trouble.RESTART:
                raise PowerCut
            case Trouble.HUB_GONE:
                self.hub.faults = [Fault(path="/", status=503, times=_AWAY)]
            case Trouble.DISK_FULL:
                _fill_disk()
            case Trouble.CANCEL if self.driver is not None:
                self.driver.withdraw()
            case Trouble.NEWER if self.driver is not None:
                self.driver.assign(Accepted(peek(self.newer), self.newer))
            case Trouble.ERROR if self.case.state is State.PROBATION:
                for _ in range(QUICK.probation_min_requests):
                    self.host.predict(MODEL, np.zeros((1, 8, 8), np.float32))
            case Trouble.ERROR:
                _damage(self.paths, self.case.state)
                if self.case.state in REST:
                    raise PowerCut

    async def run(self, envelope: bytes | None) -> None:
        """One life: from the start to the rest of the newest assignment, or to the cut."""
        durable.make_dir(self.paths.model(MODEL).root)
        install = Installation(self.context(), MODEL)
        self.driver = Driver(install)
        await recover(install)
        task = asyncio.create_task(self.driver.run())
        if self.case.state is State.IDLE and not self.met:
            self.met = True
            self.strike()
        elif envelope is not None:
            self.driver.assign(Accepted(peek(envelope), envelope, _REFUSED if self.case.state in _WAY_BACK else None))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while not task.done() and not self.rests(install):  # noqa: ASYNC110 - files set no event
                    await asyncio.sleep(0.005)
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
            self.told.serves = self.serves()
            self.told.reason_code = install.journal.reason_code
            self.host.close()
            self.host = ModelHost()

    def rests(self, install: Installation) -> bool:
        wanted = 3 if self.case.trouble is Trouble.NEWER else self.case.counter if self.case.state != "idle" else 0
        journal = install.journal
        return self.met and journal.at in REST and journal.reported and journal.floor >= wanted

    def serves(self) -> int:
        return self.host.current(MODEL).manifest.version if self.host.serving(MODEL) is not None else 0


async def live(case: Case, hub: HubSim, root: Path, envelope: bytes, newer: bytes) -> Told:
    """Meet the case's trouble over the state folder `root`, and tell what became of it."""
    hub.faults = []
    life = _Life(case, hub, root, newer)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        await life.run(envelope)
    except PowerCut:
        await life.run(None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGXFSZ)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it: such a write fails with EFBIG
        hub.faults = []
    return life.told


def _fill_disk() -> None:
    """No file may grow, which is what a full disk means to a program, until one wanted to and for a moment longer.

    The kernel tells of each write that it refuses (SIGXFSZ), so a slow machine does not miss the full disk.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    loop = asyncio.get_running_loop()

    def refused() -> None:
        loop.call_later(_DISK_FULL_S, resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))

    loop.add_signal_handler(signal.SIGXFSZ, refused)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))


def _damage(paths: AgentPaths, state: State) -> None:
    """What makes the work of the state fail: the files that it reads are not what they were."""
    model = paths.model(MODEL)
    if state in (State.IDLE, State.ASSIGNED, State.DOWNLOADING):
        with contextlib.suppress(FileNotFoundError):
            (paths.identity / "current").unlink()
        return
    for path in _victims(model.slots, model.download, state):
        path.write_bytes(b"damaged")


def _victims(slots: Path, download: Path, state: State) -> Iterator[Path]:
    if state is State.VERIFYING:
        yield from download.glob("*.part")
    elif state in _WAY_BACK:
        yield from slots.glob("v1-*/*.tflite")
    else:
        yield from slots.glob("v2-*/*.tflite")
