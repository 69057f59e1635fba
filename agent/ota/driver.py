"""The loop of one model: advance, journal, act, and the outcome is the next event.

Rules: one event at a time. What comes from outside (a newer assignment, a withdrawal, a person) interrupts the work in
hand at once if the state takes it, and otherwise waits for the next state that does. Costly states of different models
exclude each other. The loop ends only with the agent: every failure is an event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agent.ota.actions import Actions, Outcome
from agent.ota.backoff import Backoff, delay_s
from agent.ota.counters import UNNAMED, highest_under, noted
from agent.ota.installation import Installation
from agent.ota.machine import BUSY, REST, Event, State, accepts, is_exhausted
from agent.ota.threads import in_thread
from agent.ota.waiting import mode_of
from shared.errors import Conflict, ErrorBody, SkerryError
from shared.wire.down import Assignment
from shared.wire.up import InstallReport

__all__ = ["Accepted", "Driver"]

_CONCLUDE = Backoff(base_s=0.5, cap_s=10.0, max_attempts=5)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A genuine, new assignment for this device.

    refusal: why it must not be installed nevertheless. folder: where a person brought it from; empty: from the hub.
    keyids: the keys that signed it. traceparent: where its trace goes on, if the hub traces.
    """

    assignment: Assignment
    envelope: bytes
    refusal: ErrorBody | None = None
    folder: str = ""
    keyids: Sequence[str] = ()
    traceparent: str = ""


class Driver:
    """Drives one installation."""

    def __init__(self, install: Installation) -> None:
        self.install = install
        self._actions = Actions(install)
        self._newer: Accepted | None = None
        self._withdrawn = False
        self._rollbacks: list[asyncio.Future[None]] = []  # asked for, not begun
        self._returning: list[asyncio.Future[None]] = []  # begun, not ended
        self._wake = asyncio.Event()
        self._holds_busy = False

    @property
    def floor(self) -> int:
        """The highest counter accepted, waiting ones included."""
        waiting = self._newer.assignment.counter if self._newer is not None else 0
        return max(self.install.journal.floor, waiting)

    @property
    def counters(self) -> dict[str, int]:
        """The counters used up by key, by what waits too."""
        kept, newer = self.install.journal.counters, self._newer
        return kept if newer is None else noted(kept, newer.keyids or (UNNAMED,), newer.assignment.counter)

    def is_new(self, hint: Assignment, keyids: Sequence[str]) -> bool:
        """Whether a hint's counter is not used up under the keys that it claims; which keys count is the worker's."""
        return hint.counter > highest_under(self.counters, keyids)

    def knows(self, hint: Assignment) -> bool:
        """Whether this is the assignment in hand or the one that waits, so that its coming again means nothing."""
        journal = self.install.journal
        if journal.assignment is None:
            return hint.counter == journal.floor
        if journal.folder and hint.counter < journal.assignment.counter:
            return True  # The kept document is older than what a person brought since.
        return hint == journal.assignment or (self._newer is not None and hint == self._newer.assignment)

    async def settle_restarts(self) -> None:
        """The agent has run long enough: the restarts before this were no crash loop."""
        await self.install.amend(restarts=0)

    def assign(self, accepted: Accepted) -> None:
        """Take over an assignment; one that must not be installed never disturbs an installation under way."""
        if accepted.refusal is not None and self.install.state not in REST:
            self._report_refused(accepted, accepted.refusal)
            return
        self._newer, self._withdrawn = accepted, False
        self._wake.set()

    def withdraw(self) -> None:
        """The desired state names this model no more. What a person brought is not the document's business."""
        if self.install.journal.folder:
            return
        if self.install.state not in REST and self.install.state is not State.ROLLING_BACK:
            self._withdrawn = True
            self._wake.set()

    async def roll_back(self) -> None:
        """Return to the previous version; errors `rollback.no_previous`, `rollback.busy`, `rollback.failed`."""
        if not accepts(self.install.state, Event.ROLLBACK_REQUESTED):
            raise Conflict(
                "rollback.busy",
                f"{self.install.model} is {self.install.state} and cannot be rolled back now.",
                hint="See `skerry-agent status`.",
            )
        if await in_thread(self.install.previous) is None:
            raise Conflict("rollback.no_previous", f"This device has no previous version of {self.install.model}.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rollbacks.append(done)
        self._wake.set()
        await done

    async def run(self) -> None:
        """Drive until cancelled."""
        try:
            if self.install.state in REST:
                await self._conclude()
            while True:
                await self._step()
        finally:
            for done in (*self._rollbacks, *self._returning):
                done.cancel()
            self._release_busy()
            await self._actions.close()

    async def _step(self) -> None:
        install = self.install
        state, journal = install.state, install.journal
        if is_exhausted(state, journal.steps, journal.restarts) and state not in (State.COMMITTED, State.HELD):
            outcome = Outcome(Event.EXHAUSTED, "install.exhausted", "The installation did not come to an end.")
        elif state in REST:
            outcome = await self._next_from_outside()
        else:
            outcome = await self._work()
        if outcome.event is Event.ASSIGNED:
            await self._begin()
        else:
            if outcome.event is Event.ROLLBACK_REQUESTED:
                self._returning, self._rollbacks = self._rollbacks, []
            await install.advance(outcome.event, outcome.code, outcome.reason, **outcome.changes)
        if install.state not in (State.DOWNLOADING, State.VERIFYING):
            await self._actions.close()
        if install.state not in BUSY:
            self._release_busy()
        if install.state in REST:
            await self._conclude()
        self._answer_rollbacks()

    async def _begin(self) -> None:
        accepted, self._newer = self._newer, None
        if accepted is None:
            return
        install = self.install
        active = await in_thread(install.slots.active)
        self._actions.checked = accepted.refusal is None
        await install.change(
            lambda now: now.assigned(
                accepted.assignment,
                accepted.envelope,
                active or "",
                accepted.refusal,
                accepted.folder,
                accepted.keyids,
                accepted.traceparent,
            )
        )
        install.report()

    async def _next_from_outside(self) -> Outcome:
        """Wait at rest for something to do."""
        while True:
            event = self._outside()
            if event is not None:
                return event
            await self._wake.wait()
            self._wake.clear()

    def _outside(self) -> Outcome | None:
        """The event that waits outside and that the present state takes, if any."""
        state = self.install.state
        if self._rollbacks and accepts(state, Event.ROLLBACK_REQUESTED):
            return Outcome(
                Event.ROLLBACK_REQUESTED,
                "rollback.requested",
                "A person at the device asked for the previous version.",
                {"fallback": self.install.previous() or "", "slot": self.install.slots.active() or ""},
            )
        if self._newer is not None:
            if state in REST:
                return Outcome(Event.ASSIGNED)
            newer = self._newer.assignment
            spares = state is State.PROBATION and mode_of(newer) != "live"  # it will not take the place of what bakes
            if accepts(state, Event.SUPERSEDED) and not self._is_renewal() and not spares:
                return Outcome(Event.SUPERSEDED, "install.superseded", f"Version {newer.version} was assigned.")
        if self._withdrawn and accepts(state, Event.CANCELLED):
            self._withdrawn = False
            return Outcome(Event.CANCELLED, "install.cancelled", "The assignment was withdrawn.")
        return None

    def _is_renewal(self) -> bool:
        """Whether the newer assignment is for the very bundle that is being installed."""
        current = self.install.journal.assignment
        return (
            current is not None
            and self._newer is not None
            and self._newer.assignment.bundle_sha256 == current.bundle_sha256
            and self._newer.assignment.version == current.version
        )

    async def _work(self) -> Outcome:
        """The outcome of the present state's work, or the event from outside that ends it early."""
        work = asyncio.create_task(self._act(), name=f"ota-{self.install.model}-{self.install.state}")
        try:
            while True:
                await self._renew()
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
                self._wake.clear()
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    async def _act(self) -> Outcome:
        if self.install.state in BUSY and not self._holds_busy:
            await self.install.context.busy.acquire()
            self._holds_busy = True
        return await self._actions.act()

    async def _renew(self) -> None:
        """A newer assignment for the bundle in hand changes the counter and the bake time, not the work."""
        newer = self._newer
        state = self.install.state
        if newer is None or state in REST or state is State.ROLLING_BACK or not self._is_renewal():
            return
        self._newer = None
        fields = {"assignment": newer.assignment, "envelope": newer.envelope, "folder": newer.folder}
        await self.install.change(
            lambda now: msgspec.structs.replace(now.accepted(newer.assignment.counter, newer.keyids), **fields)
        )
        self._actions.renewed()
        self.install.report()

    async def _conclude(self) -> None:
        for attempt in range(1, _CONCLUDE.max_attempts + 1):
            try:
                await self.install.conclude()
                return
            except SkerryError as error:
                if attempt == _CONCLUDE.max_attempts:
                    self.install.tell(error.code, f"Cleaning up was not possible: {error.message}")
                    return
                await asyncio.sleep(delay_s(_CONCLUDE, attempt, self.install.context.random()))

    def _answer_rollbacks(self) -> None:
        """Tell those who asked for a rollback how it ended, or that it cannot be any more."""
        state = self.install.state
        if state is State.ROLLING_BACK:
            return
        ended, self._returning = self._returning, []
        if not accepts(state, Event.ROLLBACK_REQUESTED):
            ended, self._rollbacks = [*ended, *self._rollbacks], []
        for done in ended:
            if done.done():
                continue
            if state is State.ROLLED_BACK:
                done.set_result(None)
            else:
                reason = f"{self.install.model} is {state}: {self.install.journal.reason}"
                done.set_exception(Conflict("rollback.failed", reason))

    def _report_refused(self, accepted: Accepted, refusal: ErrorBody) -> None:
        assignment = accepted.assignment
        report = InstallReport(
            model=assignment.model,
            version=assignment.version,
            bundle_sha256=assignment.bundle_sha256,
            assignment_counter=assignment.counter,
            previous=self.install.state.value,
            state=State.ROLLED_BACK,
            event=Event.FAILED,
            reason_code=refusal.code[:64],
            reason=refusal.message,
            active_version=self.install.active_version(),
        )
        self.install.context.queue(report)

    def _release_busy(self) -> None:
        if self._holds_busy:
            self._holds_busy = False
            self.install.context.busy.release()
