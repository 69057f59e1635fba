"""One model's installation on a simulated device: the agent's own machine and journal, with outcomes by the scenario.

Rules: every transition is made by `agent.ota.journal.Journal`, so what is reported is what a real agent would report,
word for word and in its order: at rest an assignment, then the states one after the other, each reported once. A newer
assignment of another bundle ends the one in hand, one of the same bundle renews it. What serves is exchanged in
`activating` only, and the way back leads to the version before. Not simulated: deltas, the trial's own findings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Protocol

import msgspec

from agent.ota.backoff import Backoff, delay_s
from agent.ota.journal import Journal
from agent.ota.machine import REST, Event, State, accepts, is_exhausted
from agent.ota.probation import Limits, Observed, VerdictKind, judge
from agent.ota.slots import slot_name
from agent.ota.waiting import waiting, window_of
from scripts.fleet_sim_app.fate import Fate
from scripts.fleet_sim_app.serving import Serving
from shared.clock import Clock
from shared.errors import SkerryError
from shared.wire.down import Assignment
from shared.wire.up import InstallReport, ModelStatus

__all__ = ["Lane", "LaneParts", "Slot"]

_BOOT = "simulated"
_NO_BLAME = frozenset({"install.superseded", "install.cancelled"})
_FAILS_LATE = frozenset({State.DOWNLOADING, State.PROBING, State.PROBATION})
"""States whose work is done before it turns out to have failed."""
_RETRY = Backoff(base_s=1.0, cap_s=30.0, max_attempts=30)
_HELD_TICK_S = 1.0
_PROBATION_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Slot:
    """A bundle on the simulated disk."""

    version: int
    sha256: str
    proven: bool = False
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    event: Event
    code: str = ""
    reason: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


class Fetch(Protocol):
    """Downloads a bundle, checks it, and returns the bytes that came."""

    def __call__(self, assignment: Assignment, fate: Fate) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True)
class LaneParts:
    """What a lane needs of its device. `random` gives numbers in [0, 1)."""

    fetch: Fetch
    report: Callable[[InstallReport], None]
    fate: Callable[[int], Fate]
    serving: Serving
    budget_ms: float
    probe_s: float
    clock: Clock
    random: Callable[[], float]
    swapped: Callable[[], None]


class Lane:
    """Runs one model's installations."""

    def __init__(self, model: str, parts: LaneParts) -> None:
        self.model = model
        self.journal = Journal(model=model)
        self.slots: dict[str, Slot] = {}
        self.active: str | None = None
        self._parts = parts
        self._newer: Assignment | None = None
        self._withdrawn = False
        self._wake = asyncio.Event()

    # --- from outside -------------------------------------------------------------------------------------------------
    def offer(self, assignment: Assignment) -> None:
        """Take an assignment of the newest document; one that is known or older is ignored."""
        floor = max(self.journal.floor, self._newer.counter if self._newer else 0)
        if assignment.counter > floor:
            self._newer, self._withdrawn = assignment, False
            self._wake.set()

    def withdraw(self) -> None:
        """The document names this model no more."""
        self._newer, self._withdrawn = None, True
        self._wake.set()

    def crashed(self) -> None:
        """The agent ended abnormally and starts again: the journal decides, as in `agent.ota.recovery`."""
        journal = self.journal
        if journal.at in (State.IDLE, State.ROLLED_BACK):
            return
        if journal.at is State.COMMITTED:
            journal = msgspec.structs.replace(journal, restarts=journal.restarts + 1)
        else:
            journal = journal.begun_again(_BOOT)
        if is_exhausted(journal.at, journal.steps, journal.restarts) and not self._nowhere_to_go(journal):
            reason = f"The agent restarted {journal.restarts} times in a row on this version."
            journal = journal.after(Event.EXHAUSTED, "install.crash_loop", reason)
        self.journal = journal
        if journal.at is not State.COMMITTED:
            self._report()
        self._wake.set()

    def _nowhere_to_go(self, journal: Journal) -> bool:
        return journal.at in (State.COMMITTED, State.HELD) and self._previous() is None

    def status(self) -> ModelStatus:
        """The model as a heartbeat tells it; a new interval begins."""
        serving, active = self._parts.serving, self._active()
        serving.count(self._parts.clock.monotonic())
        seen = serving.take_beat()
        return ModelStatus(
            model=self.model,
            version=active.version if active else None,
            bundle_sha256=active.sha256 if active else None,
            state=self.journal.at.value,
            assignment_counter=self.journal.assignment.counter if self.journal.assignment else 0,
            requests=seen.requests,
            errors=seen.errors,
            latency_p50_us=seen.percentile_us(50),
            latency_p99_us=seen.percentile_us(99),
        )

    # --- the loop -----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Install until cancelled."""
        while True:
            if self.journal.at in REST:
                await self._rest()
            else:
                await self._step()

    async def _rest(self) -> None:
        while self._newer is None:
            self._wake.clear()
            await self._wake.wait()
            if self.journal.at not in REST:
                return
        assignment, self._newer, self._withdrawn = self._newer, None, False
        self.journal = self.journal.assigned(assignment, b"", self.active or "")
        self._report()

    async def _step(self) -> None:
        before = self.journal
        outcome = await self._race()
        if outcome is None:  # a crash or a renewal changed the journal
            return
        if before is not self.journal and before.at is not self.journal.at:
            return
        self.journal = msgspec.structs.replace(
            self.journal.after(outcome.event, outcome.code, outcome.reason), **outcome.changes
        )
        if self.journal.at in REST:
            self._conclude()
        self._report()

    async def _race(self) -> _Outcome | None:
        """The outcome of the present state's work, or what comes from outside and ends it early."""
        began = self.journal
        work = asyncio.create_task(self._work(), name=f"sim-{self.model}")
        try:
            while True:
                self._wake.clear()
                if self.journal is not began and not self._same_work(began):
                    return None
                outside = self._outside()
                if outside is not None:
                    return outside
                wake = asyncio.create_task(self._wake.wait())
                try:
                    await asyncio.wait({work, wake}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    wake.cancel()
                if work.done():
                    return work.result()
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    def _same_work(self, began: Journal) -> bool:
        """Whether only the assignment was renewed; a restart begins the work of the state again."""
        return self.journal.at is began.at and self.journal.steps == began.steps

    def _outside(self) -> _Outcome | None:
        newer, state = self._newer, self.journal.at
        if newer is not None and self._is_renewal(newer) and state is not State.ROLLING_BACK:
            self._newer = None
            floor = max(self.journal.floor, newer.counter)
            self.journal = msgspec.structs.replace(self.journal, assignment=newer, floor=floor)
            self._report()
            return None
        if newer is not None and accepts(state, Event.SUPERSEDED) and not self._is_renewal(newer):
            return _Outcome(Event.SUPERSEDED, "install.superseded", f"Version {newer.version} was assigned.")
        if self._withdrawn and accepts(state, Event.CANCELLED):
            self._withdrawn = False
            return _Outcome(Event.CANCELLED, "install.cancelled", "The assignment was withdrawn.")
        return None

    def _is_renewal(self, newer: Assignment) -> bool:
        current = self.journal.assignment
        return current is not None and (newer.bundle_sha256, newer.version) == (current.bundle_sha256, current.version)

    # --- what each state does -----------------------------------------------------------------------------------------
    async def _work(self) -> _Outcome:
        state, assignment = self.journal.at, self._assignment
        failure = self._parts.fate(assignment.version).failure
        failing = failure is not None and failure.state is state
        if failure is not None and failing and state not in _FAILS_LATE:
            return _Outcome(Event.FAILED, failure.code, failure.reason)
        try:
            outcome = await self._act(state, assignment)
        except SkerryError as error:
            event = Event.INTERRUPTED if error.retriable and accepts(state, Event.INTERRUPTED) else Event.FAILED
            return _Outcome(event, error.code, error.message)
        if failure is not None and failing:
            return _Outcome(Event.FAILED, failure.code, failure.reason)
        return outcome

    async def _act(self, state: State, assignment: Assignment) -> _Outcome:
        slot = slot_name(assignment.version, assignment.bundle_sha256)
        match state:
            case State.ASSIGNED:
                return await self._assigned(slot)
            case State.DOWNLOADING:
                received = await self._parts.fetch(assignment, self._parts.fate(assignment.version))
                return _Outcome(Event.SUCCEEDED, changes={"bytes_downloaded": self.journal.bytes_downloaded + received})
            case State.VERIFYING:
                self.slots.setdefault(slot, Slot(assignment.version, assignment.bundle_sha256))
                return _Outcome(Event.SUCCEEDED, changes={"slot": slot})
            case State.PROBING:
                await asyncio.sleep(self._parts.probe_s)
                return self._onward()
            case State.HELD:
                return await self._held()
            case State.ACTIVATING:
                self._serve(slot)
                return _Outcome(Event.SUCCEEDED, changes={"baked_s": 0.0, "crashes": 0, "boot": _BOOT})
            case State.PROBATION:
                return await self._probation()
            case State.ROLLING_BACK:
                return self._rolling_back()
            case _:
                return _Outcome(Event.SUCCEEDED)

    async def _assigned(self, slot: str) -> _Outcome:
        journal = self.journal
        if journal.attempt >= _RETRY.max_attempts:
            return _Outcome(Event.FAILED, journal.reason_code, f"Gave up after {journal.attempt} attempts.")
        if journal.attempt:
            await asyncio.sleep(delay_s(_RETRY, journal.attempt, self._parts.random()))
        found = self.slots.get(slot)
        if found is not None and slot == self.active and found.proven:
            return _Outcome(Event.UNCHANGED, changes={"slot": slot})
        return _Outcome(Event.FOUND, changes={"slot": slot}) if found is not None else _Outcome(Event.SUCCEEDED)

    def _onward(self) -> _Outcome:
        assignment = self._assignment
        found = waiting(assignment, window_of(assignment, None), self._parts.clock.now(), UTC)
        return _Outcome(Event.SUCCEEDED) if found.over else _Outcome(Event.READY, found.code, found.reason)

    async def _held(self) -> _Outcome:
        """Until the window opens or a renewed assignment is live."""
        while True:
            if self._onward().event is Event.SUCCEEDED:
                return _Outcome(Event.SUCCEEDED)
            await asyncio.sleep(_HELD_TICK_S)

    async def _probation(self) -> _Outcome:
        parts, clock = self._parts, self._parts.clock
        watch = Limits(bake_s=float(self._assignment.bake_s), latency_p99_us=int(parts.budget_ms * 1000))
        began = clock.monotonic()
        while True:
            parts.serving.count(clock.monotonic())
            seen = parts.serving.active
            observed = Observed(
                seen.requests, seen.errors, seen.percentile_us(99), self.journal.restarts, self.journal.crashes
            )
            baked = clock.monotonic() - began
            verdict = judge(observed, baked, watch)
            if verdict.kind is VerdictKind.COMMIT:
                return _Outcome(Event.SUCCEEDED, changes={"baked_s": baked})
            if verdict.kind is VerdictKind.ROLL_BACK:
                return _Outcome(Event.FAILED, verdict.code, verdict.reason)
            await asyncio.sleep(min(_PROBATION_TICK_S, max(watch.bake_s - baked, 0.01)))

    def _rolling_back(self) -> _Outcome:
        back = self.journal.fallback or self._previous() or ""
        if back == self.active or self.journal.slot != self.active:
            return _Outcome(Event.SUCCEEDED)
        self._serve(back if back in self.slots else None)
        return _Outcome(Event.SUCCEEDED)

    # --- the simulated disk -------------------------------------------------------------------------------------------
    def _serve(self, slot: str | None) -> None:
        if slot == self.active:
            return
        self.active = slot
        found = self._active()
        version = found.version if found else None
        fate = self._parts.fate(version) if version is not None else Fate()
        self._parts.serving.swap(version, fate, self._parts.clock.monotonic())
        self._parts.swapped()

    def _conclude(self) -> None:
        """Having come to rest: the version is proven or left, and what is of no more use goes."""
        journal, slot = self.journal, self.journal.slot
        if journal.at is State.COMMITTED and slot in self.slots:
            self.slots[slot] = Slot(self.slots[slot].version, self.slots[slot].sha256, proven=True)
        elif journal.at is State.ROLLED_BACK and journal.reason_code not in _NO_BLAME and slot in self.slots:
            left = self.slots[slot]
            self.slots[slot] = Slot(left.version, left.sha256, proven=left.proven, left=slot != self.active)
        keep = {self.active, self._previous() if journal.at is State.COMMITTED else None}
        if journal.at is not State.COMMITTED:
            keep |= {name for name, found in self.slots.items() if found.proven}
        self.slots = {name: found for name, found in self.slots.items() if name in keep}

    def _previous(self) -> str | None:
        proven = [n for n, found in self.slots.items() if found.proven and not found.left and n != self.active]
        return self.journal.fallback if self.journal.fallback in proven else next(iter(proven), None)

    def _active(self) -> Slot | None:
        return self.slots.get(self.active) if self.active is not None else None

    @property
    def _assignment(self) -> Assignment:
        if self.journal.assignment is None:
            raise LookupError("the journal names no assignment")
        return self.journal.assignment

    def _report(self) -> None:
        active = self._active()
        message = self.journal.report(active.version if active else None)
        if message is not None:
            self._parts.report(message)
