"""What the installer needs of the rest of the agent, as protocols, and the bundle of them that is handed around."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from agent.ota.journal import Journal
from agent.ota.probe import ProbeResult
from agent.ota.settings import OtaSettings
from agent.ota.worker_protocol import Request
from agent.ota.zone import device_zone
from agent.paths import AgentPaths
from shared.clock import Clock
from shared.errors import SkerryError
from shared.profiles import Profile
from shared.wire.down import Assignment
from shared.wire.up import Event, InstallReport

__all__ = ["Context", "Host", "Message", "Probe", "Served", "Shadow", "Worker"]

T = TypeVar("T")
_LOG = logging.getLogger("agent.ota")
_KEEP_S = 10.0
Message: TypeAlias = InstallReport | Event
"""What goes to the hub through the outbox."""


class Served(Protocol):
    """Counts since the version became active. `errors` are failures of the model, not of the caller's input."""

    @property
    def requests(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def latency_p99_us(self) -> int: ...


class Host(Protocol):
    """What serves predictions. `load` takes as long as it takes and runs in a thread; the others are immediate.

    What `load` gives and `swap` takes is the host's own affair, but for `close()`, which frees it.
    """

    def load(self, model: str, directory: Path) -> Any:
        """The version unpacked in `directory`, in memory, not serving yet; raises `SkerryError`."""
        ...

    def swap(self, model: str, loaded: Any) -> None:
        """Serve `loaded` from now on; requests under way end on the version before."""
        ...

    def unload(self, model: str) -> None:
        """Serve nothing for this model."""
        ...

    def serving(self, model: str) -> Path | None:
        """The folder of the version that serves; None when there is none."""
        ...

    def served(self, model: str) -> Served:
        """What happened since the last swap."""
        ...

    def under_way_s(self, model: str) -> float:
        """For how long the present prediction has been running; 0 when there is none."""
        ...

    def give_up(self, model: str) -> None:
        """Wait no longer for the present prediction, which will not end."""
        ...


class Worker(Protocol):
    """The child that does cryptography, network and unpacking (`agent.ota.worker_client`)."""

    async def ask(self, request: Request, kind: type[T], timeout_s: float, progress: Callable[[int], None] = ...) -> T:
        """Its reply, or its failure as a `SkerryError`."""
        ...

    async def close(self) -> None:
        """End it; nothing that it leaves half done counts."""
        ...


class Probe(Protocol):
    """What tries a version (`agent.ota.prober`)."""

    async def probe(self, directory: Path) -> ProbeResult:
        """What it found, if that is acceptable; else a `SkerryError`."""
        ...


class Shadow(Protocol):
    """What runs a candidate beside the version that serves (`agent.shadow`)."""

    async def run(self, model: str, directory: Path, assignment: Assignment, end: asyncio.Event) -> None:
        """Until `end` is set; raises a `SkerryError` (`shadow.*`) when the candidate cannot run, or cannot go on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that an installation works with.

    busy: held by the one model that is in a costly state. observe: told after every durable write of a journal.
    random: numbers in [0, 1). free_bytes: what the file system of a folder has left. report: queues a message.
    keep: returns when a message is on the disk. zone: the device's time zone. shadow: runs candidates.
    """

    paths: AgentPaths
    profile: Profile
    settings: OtaSettings
    host: Host
    probe: Probe
    open_worker: Callable[[], Worker]
    report: Callable[[Message], None]
    keep: Callable[[Message], Awaitable[object]]
    clock: Clock
    random: Callable[[], float]
    free_bytes: Callable[[Path], int]
    observe: Callable[[Journal], None]
    busy: asyncio.Lock
    zone: Callable[[], tzinfo] = device_zone
    shadow: Shadow | None = None

    def queue(self, message: Message) -> bool:
        """Hand a message to the outbox; whether it took it. What it does not take never stops an installation."""
        try:
            self.report(message)
        except SkerryError as error:
            _LOG.error("a message to the hub could not be queued: %s", error)
            return False
        return True

    async def deliver(self, message: Message) -> bool:
        """Hand a message to the outbox and wait, within bounds, until it is on the disk; whether it is."""
        try:
            async with asyncio.timeout(_KEEP_S):
                await asyncio.shield(asyncio.ensure_future(self.keep(message)))
        except (SkerryError, TimeoutError) as error:
            _LOG.error("a message to the hub is not on the disk yet: %r", error)
            return False
        return True
