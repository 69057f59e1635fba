"""This device's part in federated training: answers offers, and runs the process that trains while it may.

Rules: an offer is accepted only by `agent.training.budget`, and looked at again before each task and while it is worked
on; what no longer holds stops the training at the next epoch. One run at a time; a process that only stays for another
round gives way to another run. What is accepted, declined, done or failed is told to the hub. After a failure of the
process the device takes no offer for a while. Nothing here imports Flower or cryptography, and nothing runs while there
is no offer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

import msgspec

from agent.training.attendance import Attendance
from agent.training.budget import Decision, Demands, Readings, Wanted, decide, still_holds
from agent.training.heads import PersonalHeads
from agent.training.journal import TrainingJournal, TrainingStatus
from agent.training.offers import Arrived, OfferIntake
from agent.training.ordering import Ordering
from agent.training.readings import DeviceReadings
from agent.training.settings import TrainingSettings
from shared.clock import Clock
from shared.errors import SkerryError
from shared.profiles import Profile
from shared.wire.training import SampleCount, TrainingOffer, TrainingReport, TrainingState
from shared.wire.up import Event

__all__ = ["Participation"]

_LOG = logging.getLogger(__name__)
_MEASURE_S = 0.5
_MOST_REST_S = 3600.0


class Participation:
    """The part of one device. report: queues a message for the hub. measure_s: how long the processor is looked at
    before a decision."""

    def __init__(
        self,
        offers: OfferIntake,
        profile: Profile,
        settings: TrainingSettings,
        readings: DeviceReadings,
        ordering: Ordering,
        heads: PersonalHeads,
        report: Callable[[msgspec.Struct], None],
        clock: Clock,
        *,
        measure_s: float = _MEASURE_S,
        module: str = "agent.training.child",
    ) -> None:
        self.offers = offers
        self.heads = heads
        self._profile = profile
        self._settings = settings
        self._readings = readings
        self._ordering = ordering
        self._report = report
        self._clock = clock
        self._measure_s = measure_s
        self._module = module
        self._journal = TrainingJournal()
        self._demands = Demands(
            settings.require_secure_aggregation, settings.min_client_noise, settings.busy_percent
        )
        self._attendance: Attendance | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._rested_s = 0.0

    async def run(self) -> None:
        """Until cancelled: answer what comes."""
        try:
            while True:
                arrived = self.offers.next()
                if arrived is None:
                    await self.offers.came.wait()
                    continue
                await self._answer(arrived)
        finally:
            await self._end()

    @property
    def keeps(self) -> bool:
        """Are samples kept here?"""
        return self._readings.keeps

    def status(self) -> TrainingStatus:
        """For people."""
        running = self._attendance
        return TrainingStatus(
            enabled=self._settings.enabled and self._profile.training.allowed,
            installed=self._readings.installed(),
            running=running.offer.run if running is not None else "",
            offers=self._journal.newest(),
            refused=self.offers.refused_count,
            dropped=self.offers.dropped_count,
            rounds=self._journal.rounds,
            failures=self._journal.failures,
            peak_bytes=self._journal.peak_bytes,
            heads=self.heads.status(),
        )

    def counts(self) -> list[SampleCount]:
        """What there is to train on, for the heartbeat."""
        found = []
        for model in self._readings.trainable():
            classes = self._readings.samples(model)
            personal = self.heads.serves(model)
            if personal:
                self.heads.wake()  # an erasure in another process may have taken what it was made of
            found.append(
                SampleCount(
                    model=model,
                    kept=sum(classes.values()),
                    seen=self._readings.seen(model),
                    classes=sum(1 for count in classes.values() if count),
                    personal=personal,
                )
            )
        return found

    async def _answer(self, arrived: Arrived) -> None:
        offer, running = arrived.offer, self._attendance
        if running is not None and running.over:
            await self._end(kill=False)
            running = self._attendance
        here = running is not None and running.offer.run == offer.run
        free_in_s = None
        if running is not None and not here and running.works:
            free_in_s = running.left_s()
        elif running is not None and not here:
            await self._end()
        decision = await self._decide(offer, free_in_s)
        left_s = arrived.left_s(self._clock.monotonic())
        if decision.accepted and left_s <= 0:
            return  # it took too long to look; the hub has given up on this device
        state: TrainingState = "accepted" if decision.accepted else "declined"
        self.tell(offer, state, decision.code, decision.reason, retry_s=decision.retry_s)
        if not decision.accepted:
            return
        if here and running is not None and self._attendance is running and not running.over:
            running.expect(offer, left_s)
            return
        await self._end()
        await self._begin(offer, left_s)

    async def _decide(self, offer: TrainingOffer, free_in_s: float | None) -> Decision:
        pid = self._attendance.pid if self._attendance is not None else None
        self._readings.mark(pid)
        await asyncio.sleep(self._measure_s)
        return self.may(offer, free_in_s=free_in_s, pid=pid)

    def still(self, readings: Readings) -> Decision:
        """Whether a device that trains may go on."""
        return still_holds(self._profile, readings, self._demands)

    def may(self, offer: TrainingOffer, *, free_in_s: float | None = None, pid: int | None = None) -> Decision:
        """What this device says to the offer at this moment. free_in_s: when the other run's task is over at the
        latest; None: there is none. pid: of the training process, if it runs."""
        readings = self._readings.take(offer.model, offer.bundle_sha256, pid)
        readings = replace(
            readings,
            enabled=readings.enabled and self._settings.enabled,
            busy=readings.busy or free_in_s is not None,
            free_in_s=free_in_s,
            rest_s=max(0.0, self._rested_s - self._clock.monotonic()) if self._failures else 0.0,
        )
        wanted = Wanted(
            model=offer.model,
            version=offer.version,
            seconds=offer.task_s,
            memory_bytes=0 if pid is not None else offer.memory_bytes,
            bytes=offer.bytes,
            min_samples=offer.min_samples,
            classes=offer.min_classes,
            promise=offer.promise,
        )
        return decide(self._profile, wanted, readings, self._demands)

    async def _begin(self, offer: TrainingOffer, left_s: float) -> None:
        try:
            order = self._ordering.start(offer, self._readings.space(offer.model), left_s)
            attendance = await Attendance.open(
                order, offer, self._settings, self._readings, self, self._clock, module=self._module
            )
        except SkerryError as error:
            self.failed(offer, offer.round_no, error.code, error.message, rest=True)
            return
        self._attendance = attendance
        self._task = asyncio.create_task(self._attend(attendance), name="training-session")

    async def _attend(self, attendance: Attendance) -> None:
        try:
            await attendance.run()
        except Exception as error:  # noqa: BLE001 - the next offer finds a device that is free again
            _LOG.exception("attending the training failed in an unforeseen way")
            self.failed(attendance.offer, attendance.offer.round_no, "training.defect", repr(error), rest=True)
        finally:
            await attendance.close()
        left_s = attendance.unserved_s()
        if left_s > 0:  # it left while the offer was on its way to it
            await self._begin(attendance.offer, left_s)
        elif self._attendance is attendance:
            self._attendance = None

    async def _end(self, *, kill: bool = True) -> None:
        """End the training process, if there is one, or wait until it has ended."""
        task, self._task = self._task, None
        if task is not None:
            if kill:
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if kill or self._task is None:
            self._attendance = None

    # --- what the attendance tells -------------------------------------------------------------------------------
    def tell(
        self,
        offer: TrainingOffer,
        state: TrainingState,
        code: str = "",
        reason: str = "",
        *,
        round_no: int | None = None,
        seconds: float = 0.0,
        retry_s: float = 0.0,
    ) -> None:
        """Tell the hub what became of an offer."""
        report = TrainingReport(
            run=offer.run,
            round_no=max(1, offer.round_no if round_no is None else round_no),
            model=offer.model,
            state=state,
            code=code,
            reason=reason[:500],
            seconds=_bounded(seconds),
            retry_s=_bounded(retry_s),
        )
        self._journal.note(report, self._clock.now())
        self.post(report)

    def done(self, offer: TrainingOffer, round_no: int, seconds: float, peak_bytes: int) -> None:
        """The hub has an answer."""
        self._failures = 0
        self._journal.peak_bytes = max(self._journal.peak_bytes, peak_bytes)
        self.tell(offer, "done", round_no=round_no, seconds=seconds)

    def failed(
        self, offer: TrainingOffer, round_no: int, code: str, reason: str, *, seconds: float = 0.0, rest: bool = False
    ) -> None:
        """A task, or all of it, failed. rest: the process is to blame, so take no offer for a while."""
        if rest:
            self._failures += 1
            pause_s = min(self._settings.rest_s * 2.0 ** min(self._failures - 1, 20), _MOST_REST_S)
            self._rested_s = self._clock.monotonic() + pause_s
        self.tell(offer, "failed", code, reason, round_no=round_no, seconds=seconds)

    def post(self, message: msgspec.Struct) -> None:
        """Queue a message; what the outbox does not take never stops the training."""
        try:
            self._report(message)
        except SkerryError as error:
            _LOG.error("a message about training could not be queued: %s", error)

    def shortfalls(self, named: str) -> None:
        """The training process is confined less than it should be."""
        message = f"Training is confined less than it should be: {named}."[:500]
        self.post(Event(code="sandbox.shortfall", severity="warning", message=message))


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), 7 * 86_400.0)


