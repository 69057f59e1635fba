"""One model's installation on this device: its journal in memory and on disk, its slots, and what the hub is told.

Rules: the journal on disk is written before the one in memory changes, and before anything is done about it. A
journal that cannot be written stops the installation where it is, with waits, never the serving. How it
ended counts as reported only when the message is on the disk; else it is reported again at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from agent.ota import history, journal
from agent.ota.backoff import Backoff, delay_s
from agent.ota.counters import UNNAMED
from agent.ota.journal import Journal
from agent.ota.machine import REST, Event, State
from agent.ota.ports import Context
from agent.ota.slots import SlotRecord, Slots
from agent.ota.threads import in_thread
from shared import durable, limits
from shared.errors import NotFound, StorageFailure, Untrusted
from shared.wire import up

__all__ = ["NO_BLAME", "Installation"]

_LOG = logging.getLogger("agent.ota")
_WRITE_BACKOFF = Backoff(base_s=1.0, cap_s=60.0)
NO_BLAME = frozenset({"install.superseded", "install.cancelled"})
"""Reasons for giving an installation up that say nothing against the version."""


class Installation:
    """Journal, slots and messages of one model."""

    def __init__(self, context: Context, model: str) -> None:
        self.context = context
        self.model = model
        self.paths = context.paths.model(model)
        self.slots = Slots(self.paths)
        self.journal = Journal(model=model)
        self._writing = asyncio.Lock()
        self.bytes_now = 0
        """Bytes of the bundle on disk while it is being downloaded; for people only."""

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.journal.at

    def load(self) -> None:
        """Read the journal; a lost one's counter is the highest of all slots', under whatever key."""
        read = journal.load(self.paths.journal, self.model)
        if not read.counters:
            floor = max([read.floor, *(record.counter for record in self.slots.records())])
            read = msgspec.structs.replace(read, floor=floor, counters={UNNAMED: floor} if floor else {})
        self.journal = read

    async def change(self, make: Callable[[Journal], Journal]) -> None:
        """Make `make(journal)` the journal: on disk first, with waits until the disk takes it, then in memory."""
        async with self._writing:
            target = make(self.journal).timed(self.journal, max(0.0, self.context.clock.now()))
            if target == self.journal:
                return
            attempt = 0
            while not await self._written(target, first=attempt == 0):
                attempt += 1
                await asyncio.sleep(delay_s(_WRITE_BACKOFF, attempt, self.context.random()))
            self.journal = target
            self.context.observe(target)

    async def _written(self, target: Journal, *, first: bool) -> bool:
        try:
            await in_thread(journal.save, self.paths.journal, target)
        except (StorageFailure, OSError) as error:
            if first:
                self.tell("storage.write", f"The installation of {self.model} waits for the disk: {error}")
            return False
        return True

    async def advance(self, event: Event, reason_code: str = "", reason: str = "", **changes: Any) -> None:
        """Take a transition: journal it durably, then report it (an end is reported by `conclude`)."""
        await self.change(lambda now: msgspec.structs.replace(now.after(event, reason_code, reason), **changes))
        if self.state not in REST:
            self.report()

    async def amend(self, **changes: Any) -> None:
        """Change fields of the journal without a transition."""
        await self.change(lambda now: msgspec.structs.replace(now, **changes))

    def active_record(self) -> SlotRecord | None:
        """The record of the active slot, if it can be read."""
        return self._readable(self.slots.active())

    def previous_record(self) -> SlotRecord | None:
        """The record of the slot that `rollback` would return to."""
        return self._readable(self.previous())

    def active_version(self) -> int | None:
        """The version of the active slot."""
        record = self.active_record()
        return record.version if record is not None else None

    def report(self) -> None:
        """Tell the hub about the last transition, if an assignment led to it."""
        message = self.journal.report(self.active_version())
        if message is not None:
            self.context.queue(message)

    async def _report_end(self) -> bool:
        """Tell the hub how it ended; whether that is on the disk, so that a power cut cannot take it."""
        message = self.journal.report(self.active_version())
        if message is not None:
            return await self.context.deliver(message)
        return not self.journal.reason_code or await self.context.deliver(self._plain_event())

    def tell(self, code: str, message: str) -> bool:
        """Queue an event for people; whether it was queued."""
        _LOG.error("%s: %s [%s]", self.model, message, code)
        event = up.Event(code=code[:64], severity="error", message=message[: limits.MAX_REASON_CHARS], model=self.model)
        return self.context.queue(event)

    async def conclude(self) -> None:
        """Having come to rest: keep what is needed, remove the rest, note and report the end. May be repeated."""
        if self.state is State.COMMITTED and self.journal.slot:
            await in_thread(self.slots.prove, self.journal.slot, self.journal.floor)
        elif self.state is State.ROLLED_BACK and self.journal.reason_code not in NO_BLAME:
            await in_thread(self._leave)
        await in_thread(self._tidy)
        if self.journal.assignment is not None and not self.journal.reported:
            await in_thread(history.append, self.paths.root / "history.json", self._entry())
        if not self.journal.reported and await self._report_end():
            await self.amend(reported=True)

    def previous(self) -> str | None:
        """The proven slot to return to from the active one; never one that the device was sent away from."""
        active, records = self.slots.active(), self.slots.records()
        proven = [found.slot for found in records if found.proven and not found.left and found.slot != active]
        return self.journal.fallback if self.journal.fallback in proven else next(iter(proven), None)

    def _leave(self) -> None:
        if self.journal.slot and self.journal.slot != self.slots.active():
            self.slots.leave(self.journal.slot)

    def _tidy(self) -> None:
        previous = self.previous() if self.state is State.COMMITTED else None
        proven = {record.slot for record in self.slots.records() if record.proven}
        keep = {previous} if self.state is State.COMMITTED and previous else proven
        self.slots.sweep(frozenset(keep))
        if self.state in REST and self.paths.download.is_dir():
            for path in self.paths.download.iterdir():
                durable.remove(path)

    def _entry(self) -> history.HistoryEntry:
        found, assignment = self.journal, self.journal.assignment
        if assignment is None:
            raise StorageFailure("journal.damaged", "The journal names no assignment.")
        return history.HistoryEntry(
            model=self.model,
            version=assignment.version,
            bundle_sha256=assignment.bundle_sha256,
            assignment_counter=assignment.counter,
            state=found.at.value,
            event=found.event,
            reason_code=found.reason_code,
            reason=found.reason,
            active_version=self.active_version(),
            ended_s=self.context.clock.now(),
        )

    def _plain_event(self) -> up.Event:
        return up.Event(
            code=self.journal.reason_code[:64], severity="error", message=self.journal.reason, model=self.model
        )

    def _readable(self, slot: str | None) -> SlotRecord | None:
        if slot is None:
            return None
        try:
            return self.slots.record(slot)
        except (NotFound, Untrusted):
            return None
