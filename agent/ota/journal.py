"""The journal of one model's installation: the one file that says where it stands. Written before anything is done.

Rules: one struct, replaced as a whole and durably at every transition. What an older agent wrote stays readable;
unknown fields are ignored, an unknown state means roll back, and so does a damaged file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from agent.ota import sealed
from agent.ota.counters import UNNAMED, noted
from agent.ota.machine import Event, State, advance, parse_state
from shared import limits
from shared.errors import ErrorBody, NotFound, StorageFailure, TooLarge
from shared.wire.down import Assignment
from shared.wire.types import Count, ModelName
from shared.wire.up import InstallReport, InstallTrace

__all__ = ["Journal", "load", "save"]


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Where the installation of one model stands.

    floor: the counter accepted last. counters: the highest ones by the keys that signed them (`agent.ota.counters`).
    envelope: the assignment in hand as received and verified.
    folder: where the bundle comes from if a person brought it; else the hub.
    slot: being installed. fallback: the slot to return to. attempt: failed attempts that were worth repeating.
    restarts: in a row in this state. steps: transitions of this assignment. baked_s: seconds of probation passed.
    refused: the assignment is genuine but must not be installed, for the reason given.
    crashes: ends of the agent during probation that were neither orderly nor the machine's, however far apart.
    orderly: the agent's last end was in order. boot: the start of the machine in which the agent last took this up.
    reported: whether the hub's copy of the last transition was handed to the outbox.
    traceparent: where the hub's trace goes on; empty: it does not trace. assigned_s, began_s, at_s: for that trace,
    when the installation began, when the state before this one did, and when this one did.
    """

    schema_version: int = 1
    model: ModelName
    state: str = State.IDLE
    previous: str = State.IDLE
    event: str = ""
    assignment: Assignment | None = None
    envelope: bytes = b""
    folder: str = ""
    floor: Count = 0
    slot: str = ""
    fallback: str = ""
    attempt: int = 0
    restarts: int = 0
    steps: int = 0
    baked_s: float = 0.0
    bytes_downloaded: Count = 0
    reason_code: str = ""
    reason: str = ""
    refused: bool = False
    reported: bool = True
    counters: dict[str, Count] = {}
    crashes: Count = 0
    orderly: bool = False
    boot: str = ""
    traceparent: str = ""
    assigned_s: float = 0.0
    began_s: float = 0.0
    at_s: float = 0.0

    @property
    def at(self) -> State:
        """The state; an unknown one reads as `rolling_back`."""
        return parse_state(self.state)

    def after(self, event: Event, reason_code: str = "", reason: str = "") -> Journal:
        """The journal after `event`; a reason is kept until something succeeds, and all the way back."""
        before, target = self.at, advance(self.at, event)
        again = event is Event.RESTARTED and target is before
        if event in (Event.SUCCEEDED, Event.FOUND, Event.UNCHANGED) and before is not State.ROLLING_BACK:
            old_code, old_reason = "", ""
        else:
            old_code, old_reason = self.reason_code, self.reason
        return msgspec.structs.replace(
            self,
            state=target.value,
            previous=before.value,
            event=event.value,
            steps=self.steps + (not (again and before is State.HELD)),  # what waits for weeks may be restarted often
            attempt=self.attempt + (event is Event.INTERRUPTED),
            restarts=self.restarts + 1 if again else 0,
            reason_code=reason_code or old_code,
            reason=(reason or old_reason)[: limits.MAX_REASON_CHARS],
            reported=False,
        )

    def accepted(self, counter: int, keyids: Sequence[str]) -> Journal:
        """The journal after an assignment under `counter` was accepted that these keys signed."""
        floor = counter if keyids else max(self.floor, counter)
        return msgspec.structs.replace(self, floor=floor, counters=noted(self.counters, keyids or (UNNAMED,), counter))

    def begun_again(self, boot: str) -> Journal:
        """The journal after a start of the agent; in the same start of the machine, the end before it was a crash."""
        crashed = self.at is State.PROBATION and not self.orderly and bool(boot) and boot == self.boot
        return msgspec.structs.replace(
            self.after(Event.RESTARTED), crashes=self.crashes + crashed, orderly=False, boot=boot
        )

    def assigned(
        self,
        assignment: Assignment,
        envelope: bytes,
        active: str,
        refusal: ErrorBody | None = None,
        folder: str = "",
        keyids: Sequence[str] = (),
        traceparent: str = "",
    ) -> Journal:
        """The journal of a new installation; `active` is the slot to return to ("" on a first installation).

        `refusal` is why it must fail; it is journalled with it, so that no restart forgets it.
        """
        fresh = Journal(
            model=self.model, state=self.state, floor=self.floor, counters=self.counters, traceparent=traceparent
        )
        fresh = fresh.accepted(assignment.counter, keyids)
        fresh = msgspec.structs.replace(fresh, assignment=assignment, envelope=envelope, folder=folder, fallback=active)
        if refusal is None:
            return fresh.after(Event.ASSIGNED)
        refused = msgspec.structs.replace(fresh, refused=True)
        return refused.after(Event.ASSIGNED, refusal.code, refusal.message)

    def timed(self, before: Journal, now_s: float) -> Journal:
        """With the times of a transition that has just been taken from `before`, where the hub traces."""
        if not self.traceparent or (self.assigned_s and self.steps == before.steps):
            return self
        if not self.assigned_s:
            return msgspec.structs.replace(self, assigned_s=now_s, began_s=now_s, at_s=now_s)
        return msgspec.structs.replace(self, began_s=before.at_s, at_s=now_s)

    def _trace(self) -> InstallTrace | msgspec.UnsetType:
        if not self.traceparent:
            return msgspec.UNSET
        times = {"assigned_s": self.assigned_s, "began_s": self.began_s, "at_s": self.at_s}
        return InstallTrace(traceparent=self.traceparent, **times)

    def report(self, active_version: int | None) -> InstallReport | None:
        """The last transition for the hub; None when there never was an assignment."""
        if self.assignment is None:
            return None
        return InstallReport(
            model=self.model,
            version=self.assignment.version,
            bundle_sha256=self.assignment.bundle_sha256,
            assignment_counter=self.assignment.counter,
            previous=self.previous,
            state=self.at.value,
            event=self.event,
            reason_code=self.reason_code[:64],
            reason=self.reason,
            active_version=active_version,
            attempt=self.attempt,
            bytes_downloaded=self.bytes_downloaded,
            trace=self._trace(),
        )


def load(path: Path, model: str) -> Journal:
    """The journal in `path`; a fresh one when there is none; a damaged one becomes `rolling_back`."""
    try:
        journal = sealed.load(path, Journal, limit=limits.MAX_JOURNAL_BYTES)
    except NotFound:
        return Journal(model=model)
    except (StorageFailure, TooLarge) as error:
        return _unreadable(model, error.message)
    if journal.model != model:
        return _unreadable(model, f"The journal is of {journal.model}, not of {model}.")
    return journal


def save(path: Path, journal: Journal) -> None:
    """Write the journal durably; error `storage.write`."""
    sealed.save(path, journal)


def _unreadable(model: str, message: str) -> Journal:
    return Journal(
        model=model,
        state=State.ROLLING_BACK,
        event=Event.RESTARTED,
        reason_code="journal.damaged",
        reason=message[: limits.MAX_REASON_CHARS],
        reported=False,
    )
