"""Following one training process: what it asks is answered by the device's readings, what it does is told to the hub.

While a task is worked on, the device is looked at every `watch_s`; while the process only waits, nothing is. A process
that does not join in time, or works longer than its task allows, is ended.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from agent.training.budget import Decision, Readings
from agent.training.heads import PersonalHeads
from agent.training.protocol import (
    Asked,
    Done,
    End,
    Ended,
    Expect,
    Failed,
    FromTrainer,
    Halt,
    Joined,
    Kept,
    Start,
    Verdict,
)
from agent.training.readings import DeviceReadings
from agent.training.session import Session
from agent.training.settings import TrainingSettings
from shared.clock import Clock
from shared.wire.training import TrainingOffer, TrainingState

__all__ = ["Attendance", "Teller"]

_GRACE_S = 30.0
_QUIET_S = 60.0
_BLAMED = frozenset({"training.crashed", "training.frame", "training.hung", "training.defect", "training.no_memory"})
"""Ends after which the device rests: the process itself failed."""


class Teller(Protocol):
    """Who decides and tells (`agent.training.participation`)."""

    heads: PersonalHeads

    def may(self, offer: TrainingOffer, *, free_in_s: float | None = None, pid: int | None = None) -> Decision: ...

    def still(self, readings: Readings) -> Decision: ...

    def tell(self, offer: TrainingOffer, state: TrainingState, code: str = "", reason: str = "") -> None: ...

    def done(self, offer: TrainingOffer, round_no: int, seconds: float, peak_bytes: int) -> None: ...

    def failed(
        self, offer: TrainingOffer, round_no: int, code: str, reason: str, *, seconds: float = 0.0, rest: bool = False
    ) -> None: ...

    def shortfalls(self, named: str) -> None: ...


class Attendance:
    """One process; made by `open`. `offer`: the newest that it serves."""

    def __init__(
        self,
        session: Session,
        offer: TrainingOffer,
        settings: TrainingSettings,
        readings: DeviceReadings,
        teller: Teller,
        clock: Clock,
    ) -> None:
        self.offer = offer
        self._session = session
        self._settings = settings
        self._readings = readings
        self._teller = teller
        self._clock = clock
        self.over = False
        """The process has ended, or is about to: it takes no other offer."""
        self._joined = False
        self._open = {offer.round_no}
        self._good_until_s = clock.monotonic() + session.start.valid_s
        self._task: int | None = None
        self._halted = False
        self._left_in_order = False
        self._until_s = clock.monotonic() + session.start.valid_s + settings.start_s

    @classmethod
    async def open(
        cls,
        start: Start,
        offer: TrainingOffer,
        settings: TrainingSettings,
        readings: DeviceReadings,
        teller: Teller,
        clock: Clock,
        *,
        module: str = "agent.training.child",
    ) -> Attendance:
        """Start the process; error `training.not_started`."""
        session = await Session.open(start, module=module)
        return cls(session, offer, settings, readings, teller, clock)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._session.pid

    @property
    def works(self) -> bool:
        """Does it have a task, or one coming?"""
        return self._task is not None or bool(self._open)

    def left_s(self) -> float:
        """When its task is over at the latest."""
        return max(0.0, self._until_s - self._clock.monotonic())

    def expect(self, offer: TrainingOffer, valid_s: float) -> None:
        """Another offer of its run was accepted."""
        self.offer = offer
        self._open.add(offer.round_no)
        self._good_until_s = self._clock.monotonic() + valid_s
        if self._task is None:
            self._until_s = self._clock.monotonic() + valid_s + self._settings.start_s
        self._session.send(Expect(valid_s=valid_s, linger_s=offer.linger_s))

    def unserved_s(self) -> float:
        """For how long the newest offer is still good, if the process left before it heard of it; else 0."""
        missed = self._left_in_order and self.offer.round_no in self._open
        return max(0.0, self._good_until_s - self._clock.monotonic()) if missed else 0.0

    async def run(self) -> None:
        """Until the process has ended."""
        said = asyncio.ensure_future(self._session.next())
        try:
            while True:
                await asyncio.wait({said}, timeout=self._wait_s())
                if said.done():
                    message = said.result()
                    if isinstance(message, Ended):
                        self._ended(message)
                        return
                    self._heard(message)
                    said = asyncio.ensure_future(self._session.next())
                elif not self._look():
                    return
        finally:
            self.over = True
            said.cancel()

    async def close(self) -> None:
        """End the process."""
        await self._session.close()

    def _wait_s(self) -> float | None:
        """How long to wait for what it says until the device is looked at."""
        if self._task is not None:
            return min(self._settings.watch_s, self.left_s() + 0.01)
        return self.left_s() + 0.01 if self._open or not self._joined else None

    def _look(self) -> bool:
        """While it works, or should have begun; False: it is over."""
        if self.left_s() <= 0:
            if not self._joined:
                self._fail("training.not_joined", "The training process did not join in time.", rest=True)
                return False
            if self._task is not None:
                self._fail("training.hung", "The training does not end in time.", rest=True)
                return False
            self._open.clear()  # what was accepted did not come: the round went on without this device
            return True
        if self._task is not None and not self._halted:
            readings = self._readings.take(self.offer.model, self.offer.bundle_sha256, self.pid)
            if readings.serving.get(self.offer.model) != self.offer.version:
                self._halt("training.model_missing", "Another version serves now.")
                self._session.send(End())
                return True
            verdict = self._teller.still(readings)
            if not verdict.accepted:
                self._halt(verdict.code, verdict.reason)
        return True

    def _halt(self, code: str, reason: str) -> None:
        self._halted = True
        self._session.send(Halt(code=code, reason=reason))

    def _heard(self, message: FromTrainer) -> None:
        match message:
            case Joined(shortfalls=shortfalls):
                self._joined = True
                if shortfalls:
                    self._teller.shortfalls("; ".join(f"{missing.part}: {missing.reason}" for missing in shortfalls))
                self._teller.tell(self.offer, "joined")
            case Asked(round_no=round_no):
                self._asked(round_no)
            case Done():
                self._over(message.round_no)
                self._teller.done(self.offer, message.round_no, message.seconds, message.peak_bytes)
            case Failed(round_no=round_no, seconds=seconds, error=error):
                self._over(round_no)
                self._teller.failed(self.offer, round_no, error.code, error.message, seconds=seconds)
            case Kept():
                self._teller.heads.wake()

    def _asked(self, round_no: int) -> None:
        decision = self._teller.may(self.offer, pid=self.pid)
        self._task, self._halted = round_no, False
        self._until_s = self._clock.monotonic() + self.offer.task_s + _GRACE_S
        self._session.send(Verdict(task_s=self.offer.task_s, code=decision.code, reason=decision.reason))

    def _over(self, round_no: int) -> None:
        self._task = None
        self._open = {number for number in self._open if number > round_no}
        self._until_s = self._clock.monotonic() + _QUIET_S

    def _ended(self, ended: Ended) -> None:
        error, self.over = ended.error, True
        if error is None:
            self._left_in_order = True
            return
        if self.works or not self._joined or error.code in _BLAMED:
            self._fail(error.code, error.message, rest=error.code in _BLAMED)

    def _fail(self, code: str, reason: str, *, rest: bool) -> None:
        number = self.offer.round_no if self._task is None else self._task
        self._teller.failed(self.offer, number, code, reason, rest=rest)
