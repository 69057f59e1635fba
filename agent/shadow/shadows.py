"""The candidates that run on this device, at most one per model, and what was counted of them.

Rules: a candidate runs only beside a version that it can be compared with, and only if the class of device and the
machine have the memory for its process; otherwise it is refused with the reason. One that fails is over until the hub
assigns again.
"""

from __future__ import annotations

import asyncio
import random as random_module
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.inference.host import ModelHost
from agent.ota.settings import OtaSettings
from agent.ota.threads import in_thread
from agent.shadow.agreement import check_comparable, tolerance_of
from agent.shadow.candidate import Candidate
from agent.shadow.child import Order
from agent.shadow.counts import ShadowCounts
from agent.shadow.memory import available_bytes, check_memory
from agent.shadow.trial import Plan, Trial
from shared import limits
from shared.bundle.archive import read_manifest
from shared.bundle.manifest import Manifest
from shared.errors import Conflict, NotFound, SkerryError
from shared.profiles import Profile
from shared.sandbox.wish import Confinement
from shared.wire.down import Assignment, ShadowRun
from shared.wire.health import ShadowHealth

__all__ = ["Shadows"]

_BASE_BYTES = 2048 * limits.MIB
"""Address space that interpreter, numpy and the TFLite runtime map on a 64-bit system, most of it never touched."""
_MIN_ANSWER_S = 5.0
_BUDGETS_TO_ANSWER = 50
Key = tuple[str, int]


class Shadows:
    """Runs candidates for the installer (`agent.ota.ports.Shadow`)."""

    def __init__(
        self,
        host: ModelHost,
        profile: Profile,
        settings: OtaSettings,
        *,
        random: Callable[[], float] = random_module.random,
        available: Callable[[], int] = available_bytes,
        answer_s: float | None = None,
        module: str = "agent.shadow.child",
    ) -> None:
        """`available`: memory that the machine has left. `answer_s`: deadline of an answer, else by the profile's
        budget. `module`: what the child runs."""
        self._host = host
        self._profile = profile
        self._settings = settings
        self._random = random
        self._available = available
        self._answer_s = answer_s or max(_MIN_ANSWER_S, _BUDGETS_TO_ANSWER * profile.latency_p99_ms / 1000)
        self._module = module
        self._counts: list[tuple[Key, ShadowCounts]] = []

    async def run(self, model: str, directory: Path, assignment: Assignment, end: asyncio.Event) -> None:
        """Until `end` is set.

        Errors: `shadow.nothing_live`, `shadow.incompatible`, `shadow.no_memory`, `shadow.refused`,
        `shadow.not_started`, `shadow.crashed`, `shadow.hung`, `shadow.failed`.
        """
        try:
            live = self._host.current(model)
        except NotFound as error:
            raise Conflict("shadow.nothing_live", f"No version of {model} serves that it could run beside.") from error
        manifest = read_manifest(directory)
        check_comparable(live.manifest, manifest)
        check_memory(manifest, self._profile, self._available())
        loop = asyncio.get_running_loop()
        failure: asyncio.Future[SkerryError] = loop.create_future()

        def failed(error: SkerryError) -> None:
            loop.call_soon_threadsafe(lambda: None if failure.done() else failure.set_result(error))

        key, counts = (model, live.manifest.version), ShadowCounts(manifest.version, self._budget_ns)
        self._counts.append((key, counts))
        plan = _plan(assignment, manifest)
        trial = Trial(
            live,
            plan,
            counts,
            lambda: Candidate(manifest, answer_s=self._answer_s, module=self._module),
            lambda candidate: self._load(candidate, directory),
            failed,
            random=self._random,
        )
        self._host.tap(model, trial.offer)
        ended = asyncio.ensure_future(end.wait())
        both: set[asyncio.Future[Any]] = {failure, ended}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._host.tap(model, None)
            ended.cancel()
            await in_thread(trial.stop)
            counts.over = True
        if failure.done():
            raise failure.result()

    def take(self) -> Iterator[tuple[Key, ShadowHealth]]:
        """What is new of each candidate since the last call, by model and the version that it ran beside."""
        followed, self._counts = self._counts, [entry for entry in self._counts if not entry[1].over]
        for key, counts in followed:
            found = counts.take()
            if found is not None:
                yield key, found

    @property
    def _budget_ns(self) -> int:
        return int(self._profile.latency_p99_ms * 1_000_000)

    def _load(self, candidate: Candidate, directory: Path) -> None:
        wide = struct.calcsize("P") >= 8
        confinement = Confinement(
            read=[str(directory)],
            memory_bytes=_BASE_BYTES + 2 * self._profile.model_memory_bytes if wide else 0,
            user=self._settings.sandbox_user,
        )
        order = Order(directory=str(directory), threads=1, confinement=confinement)
        ready = candidate.load(order, self._settings.probe_timeout_s)
        if ready.resident_bytes > self._profile.model_memory_bytes:
            raise Conflict(
                "shadow.no_memory",
                f"The candidate's process takes {ready.resident_bytes} bytes; {self._profile.name} allows "
                f"{self._profile.model_memory_bytes} beside what serves.",
            )


def _plan(assignment: Assignment, manifest: Manifest) -> Plan:
    wanted = assignment.shadow if isinstance(assignment.shadow, ShadowRun) else ShadowRun()
    return Plan(
        share=wanted.share_bp / 10_000,
        cpu_bp=wanted.cpu_bp,
        task=manifest.task,
        tolerance=tolerance_of(manifest, wanted.tolerance_ppm),
    )
