"""What each state of the install machine does; the outcome is the machine's next event.

Rules: every action may be cut anywhere and be done again. A failure that may pass is `INTERRUPTED` and goes back to
`assigned`, which waits and counts; any other is `FAILED`. An action changes nothing that serves before `activating`,
and `activating` exchanges the version in memory only after the pointer on disk is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.ota.backoff import Backoff, delay_s
from agent.ota.holding import Holding
from agent.ota.installation import Installation
from agent.ota.machine import Event, State, accepts
from agent.ota.ports import Worker
from agent.ota.probation import Limits, Observed, VerdictKind, hang_s, judge
from agent.ota.restore import load, restore, serve, suspects
from agent.ota.slots import slot_name
from agent.ota.threads import in_thread
from agent.ota.trusted_time import system_uptime
from agent.ota.worker_protocol import Fetch, Fetched, Unpack, Unpacked
from shared import durable, limits
from shared.errors import ErrorBody, InternalError, NotFound, SkerryError, StorageFailure, Untrusted
from shared.profiles import check_requirements
from shared.wire import up
from shared.wire.down import Assignment

__all__ = ["Actions", "Outcome"]

_LOG = logging.getLogger("agent.ota")
_MARGIN_BYTES = 4 * limits.MIB
_ATTEMPTS_TO_RETURN = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next event, why, and what the journal notes with it."""

    event: Event
    code: str = ""
    reason: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def _failure(error: SkerryError) -> Outcome:
    return Outcome(Event.INTERRUPTED if error.retriable else Event.FAILED, error.code, error.message)


class Actions:
    """The work of every state that has some, for one model."""

    def __init__(self, install: Installation) -> None:
        self._install = install
        self._context = install.context
        self._settings = install.context.settings
        self._holding = Holding(install)
        self._worker: Worker | None = None
        self._furthest = 0
        self.checked = False
        """Whether the assignment was checked in this very attempt, so that a download need not check it again."""
        self._table: Mapping[State, Callable[[], Awaitable[Outcome]]] = {
            State.ASSIGNED: self._assigned,
            State.DOWNLOADING: self._downloading,
            State.VERIFYING: self._verifying,
            State.STAGED: self._staged,
            State.PROBING: self._probing,
            State.HELD: self._held,
            State.ACTIVATING: self._activating,
            State.PROBATION: self._probation,
            State.ROLLING_BACK: self._rolling_back,
        }

    async def act(self) -> Outcome:
        """Do the work of the present state; an unforeseen failure is a failed outcome, never the end of the loop."""
        state = self._install.state
        try:
            outcome = await self._table[state]()
        except SkerryError as error:
            outcome = _failure(error)
        except OSError as error:
            outcome = Outcome(Event.INTERRUPTED, "storage.failed", f"The disk failed: {error.strerror or error}.")
        except Exception as error:  # noqa: BLE001  (the boundary of the loop: a defect must not stop what serves)
            _LOG.exception("%s: the work of %s failed in an unforeseen way", self._install.model, state)
            outcome = Outcome(Event.FAILED, "install.failed", f"{type(error).__name__}: {error}")
        if outcome.event is Event.INTERRUPTED and not accepts(state, Event.INTERRUPTED):
            return Outcome(Event.FAILED, outcome.code, outcome.reason)
        return outcome

    def renewed(self) -> None:
        """The journal's assignment changed, for the same bundle."""
        self._holding.renewed.set()

    async def close(self) -> None:
        """End the worker, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    @property
    def _assignment(self) -> Assignment:
        found = self._install.journal.assignment
        if found is None:
            raise InternalError("journal.damaged", "The journal names no assignment.")
        return found

    async def _assigned(self) -> Outcome:
        """Wait out the back-off, then see what is there already and whether there is room for the rest."""
        journal, assignment = self._install.journal, self._assignment
        if journal.refused:
            return Outcome(Event.FAILED, journal.reason_code, journal.reason)
        if not journal.attempt:
            self._furthest = 0
        if journal.attempt >= self._settings.max_attempts:
            reason = f"Gave up after {journal.attempt} attempts: {journal.reason}"
            return Outcome(Event.FAILED, journal.reason_code, reason)
        if journal.attempt:
            policy = Backoff(self._settings.retry_base_s, self._settings.retry_cap_s, self._settings.max_attempts)
            await asyncio.sleep(delay_s(policy, journal.attempt, self._context.random()))
        slot = slot_name(assignment.version, assignment.bundle_sha256)
        if await self._is_whole(slot, assignment):
            if slot == self._install.slots.active() and self._install.slots.record(slot).proven:
                await serve(self._install, slot)
                return Outcome(Event.UNCHANGED, changes={"slot": slot})
            return Outcome(Event.FOUND, changes={"slot": slot})
        self._check_space(assignment)
        return Outcome(Event.SUCCEEDED)

    async def _is_whole(self, slot: str, assignment: Assignment) -> bool:
        try:
            record = await in_thread(self._install.slots.verify, slot)
        except (NotFound, Untrusted):
            return False
        return record.bundle_sha256 == assignment.bundle_sha256

    def _check_space(self, assignment: Assignment) -> None:
        """The bundle and its unpacked files must fit without touching what the profile keeps free."""
        profile, need = self._context.profile, 2 * assignment.bundle_bytes + _MARGIN_BYTES
        if need > profile.storage_bytes - profile.outbox_bytes:
            raise StorageFailure(
                "storage.over_budget",
                f"The installation needs {need} bytes; {profile.name} gives {profile.storage_bytes} to everything.",
                hint="Make the model smaller, or deploy it to another class of device.",
            )
        free = self._context.free_bytes(self._install.paths.root)
        if free < need + profile.min_free_bytes:
            raise StorageFailure(
                "storage.no_space",
                f"The installation needs {need + profile.min_free_bytes} bytes of free space; {free} are left.",
                hint="Free some space on the device.",
                retriable=True,
            )

    async def _downloading(self) -> Outcome:
        journal = self._install.journal
        request = Fetch(
            assignment=self._assignment,
            envelope=journal.envelope,
            recheck=not self.checked,
            folder=journal.folder,
        )
        before, self.checked = self._furthest, False
        try:
            fetched = await self._ask(request, Fetched, self._settings.fetch_timeout_s)
        except SkerryError as error:
            outcome = _failure(error)
            # A link that breaks all the time but gets further each time is slow, not hopeless.
            gained = self._furthest > before and outcome.event is Event.INTERRUPTED
            return replace(outcome, changes={"attempt": 1}) if gained else outcome
        if fetched.problem is not None:
            self._tell_delta(fetched.problem)
        return Outcome(Event.SUCCEEDED, changes={"bytes_downloaded": journal.bytes_downloaded + fetched.bytes})

    def _tell_delta(self, problem: ErrorBody) -> None:
        """A delta that failed cost only bytes, but somebody should find out why."""
        message = f"The delta could not be used, so the whole bundle was fetched: {problem.message}"
        code, model = problem.code[:64], self._install.model
        self._context.queue(
            up.Event(code=code, severity="warning", message=message[: limits.MAX_REASON_CHARS], model=model)
        )

    async def _verifying(self) -> Outcome:
        assignment = self._assignment
        slot = slot_name(assignment.version, assignment.bundle_sha256)
        if not await self._is_whole(slot, assignment):
            try:
                await self._ask(Unpack(assignment=assignment), Unpacked, self._settings.unpack_timeout_s)
            except SkerryError as error:
                return await self._not_unpacked(error)
        await self.close()
        return Outcome(Event.SUCCEEDED, changes={"slot": slot})

    async def _not_unpacked(self, error: SkerryError) -> Outcome:
        """Whatever damaged the file after its digest was right was the disk, so it is worth fetching it again."""
        if error.code in ("bundle.digest_mismatch", "storage.missing"):
            await in_thread(self._remove_download)
            return Outcome(Event.INTERRUPTED, error.code, error.message)
        return _failure(error)

    async def _staged(self) -> Outcome:
        """The slot is whole from here on: the archive goes, and the manifest must suit the device."""
        install, slot = self._install, self._install.journal.slot
        await in_thread(self._remove_download)
        try:
            await in_thread(install.slots.verify, slot)
            manifest = install.slots.manifest(slot)
        except (NotFound, Untrusted) as error:
            return Outcome(Event.INTERRUPTED, error.code, error.message)
        check_requirements(self._context.profile, manifest.requirements)
        return Outcome(Event.SUCCEEDED)

    async def _probing(self) -> Outcome:
        await self._context.probe.probe(self._install.slots.directory(self._install.journal.slot))
        return self._onward()

    def _onward(self) -> Outcome:
        """To activation, or to wait for it."""
        found = self._holding.now()
        return Outcome(Event.SUCCEEDED) if found.over else Outcome(Event.READY, found.code, found.reason)

    async def _held(self) -> Outcome:
        """Days may have passed when it is over, so the slot is read again: a damaged one is fetched anew."""
        await self._holding.until_over()
        try:
            await in_thread(self._install.slots.verify, self._install.journal.slot)
        except (NotFound, Untrusted) as error:
            return Outcome(Event.INTERRUPTED, error.code, error.message)
        return Outcome(Event.SUCCEEDED)

    async def _activating(self) -> Outcome:
        """Load, point, exchange: after a cut anywhere the pointer says which version is active, and both are whole.

        What comes here late, after a restart or behind another model's download, may find its window closed.
        """
        install, host, slot = self._install, self._context.host, self._install.journal.slot
        directory = install.slots.directory(slot)
        try:
            if install.slots.active() != slot and (onward := self._onward()).event is Event.READY:
                return onward
            if host.serving(install.model) == directory:
                await in_thread(install.slots.activate, slot)
            else:
                loaded = await load(install, directory)
                try:
                    await in_thread(install.slots.activate, slot)
                except BaseException:
                    loaded.close()
                    raise
                host.swap(install.model, loaded)
        except SkerryError as error:
            return Outcome(Event.FAILED, error.code, error.message)
        boot = system_uptime().boot
        return Outcome(Event.SUCCEEDED, changes={"baked_s": 0.0, "crashes": 0, "orderly": False, "boot": boot})

    async def _probation(self) -> Outcome:
        """Watch until the bake time has passed or something speaks against the version."""
        install, settings, clock = self._install, self._settings, self._context.clock
        latency_p99_us = int(self._context.profile.latency_p99_ms * 1000)
        watch = Limits(
            bake_s=float(self._assignment.bake_s),
            latency_p99_us=latency_p99_us,
            hang_s=hang_s(latency_p99_us, settings.probation_hang_s),
            min_requests=settings.probation_min_requests,
            max_error_percent=settings.probation_max_error_percent,
        )
        began = noted = clock.monotonic()
        before = install.journal.baked_s
        while True:
            now = clock.monotonic()
            baked = before + now - began
            verdict = judge(self._observed(), baked, watch)
            if verdict.kind is VerdictKind.COMMIT:
                return Outcome(Event.SUCCEEDED, changes={"baked_s": baked})
            if verdict.kind is VerdictKind.ROLL_BACK:
                if verdict.code == "probation.hung":
                    self._context.host.give_up(install.model)
                return Outcome(Event.FAILED, verdict.code, verdict.reason)
            if now - noted >= settings.checkpoint_s:
                noted = now
                await install.amend(baked_s=baked, restarts=0)
            await asyncio.sleep(min(settings.probation_tick_s, max(watch.bake_s - baked, 0.01)))

    def _observed(self) -> Observed:
        host, install = self._context.host, self._install
        seen = host.served(install.model)
        return Observed(
            requests=seen.requests,
            errors=seen.errors,
            latency_p99_us=seen.latency_p99_us,
            restarts=install.journal.restarts,
            crashes=install.journal.crashes,
            under_way_s=host.under_way_s(install.model),
        )

    async def _rolling_back(self) -> Outcome:
        """Return to the best version that works; a few attempts, as this must not fail for a passing reason.

        The pointer is given up only where there is surely nothing to return to. A disk that fails to read for a moment
        looks the same at first.
        """
        install, failure = self._install, ""
        for attempt in range(1, _ATTEMPTS_TO_RETURN + 1):
            try:
                if await restore(install, *suspects(install.journal), quiet=attempt > 1) is not None:
                    return Outcome(Event.SUCCEEDED)
                if not install.journal.fallback and not await in_thread(install.slots.may_be_proven):
                    self._context.host.unload(install.model)
                    await in_thread(install.slots.deactivate)
                    return Outcome(Event.SUCCEEDED)
                failure = "No version to return to works."
            except (SkerryError, OSError) as error:
                failure = f"The way back failed too: {error}"
            if attempt < _ATTEMPTS_TO_RETURN:
                await asyncio.sleep(delay_s(Backoff(base_s=0.2, cap_s=5.0), attempt, self._context.random()))
        return Outcome(Event.FAILED, reason=f"{install.journal.reason} {failure}")

    def _remove_download(self) -> None:
        if self._install.paths.download.is_dir():
            for path in self._install.paths.download.iterdir():
                durable.remove(path)

    async def _ask(self, request: Fetch | Unpack, kind: type[Any], timeout_s: float) -> Any:
        if self._worker is None:
            self._worker = self._context.open_worker()
        return await self._worker.ask(request, kind, timeout_s, self._progress)

    def _progress(self, received: int) -> None:
        self._install.bytes_now = received
        self._furthest = max(self._furthest, received)
