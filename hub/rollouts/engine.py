"""The engine's effects: what changed is taken in, then each rollout ticks, in short transactions of its own.

Rules: a tick decides on one snapshot and writes only if nothing of it has moved since; progress, actions and record are
one transaction, so a hub that dies anywhere goes on exactly where it stood. A rollout whose tick fails stops nothing
else; one whose version cannot be assigned any more is paused, and says why. Between two transactions there is room for
others: the engine waits as long as its last transaction took.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from hub.audit.log import AuditLog
from hub.deployments.assignments import AssignmentService
from hub.rollouts.carrying_out import carry_out
from hub.rollouts.clockwork import advance
from hub.rollouts.commands import command
from hub.rollouts.counts import Counts
from hub.rollouts.evidence import EvidenceCollector
from hub.rollouts.membership import Memberships, is_volatile
from hub.rollouts.record import action_of, audited, news
from hub.rollouts.silence import heard_since, marks_after
from hub.rollouts.state import ENDED, Command, CommandKind, GroupStatus, Tick
from hub.rollouts.tick import tick
from hub.rollouts.timing import observe_s
from hub.store import rollout_members, rollout_reports
from hub.store import rollouts as store
from hub.store.database import Connection, Database
from hub.store.rollout_actions import Moment
from hub.store.rollout_counts import group_counts
from hub.store.rollouts import RolloutRow
from shared.clock import Clock
from shared.errors import Conflict, SkerryError

__all__ = ["ENGINE", "Known", "RolloutEngine"]

_LOG = logging.getLogger("skerry.hub.rollouts")
_Done = TypeVar("_Done", int, str)
ENGINE = "hub"
"""Who did it, where nobody asked."""
_BATCH_COUNT = 125  # what devices report waits while these are written
_ARRIVALS_COUNT = 1000
_REPORTS_COUNT = 1000
_JOINED_COUNT = 2500
_SWEEP_S = 60.0
_PASS_S = 30.0
_TRIES_COUNT = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What one snapshot says of a rollout: all that a tick or a command may know."""

    row: RolloutRow
    counts: Counts
    outranking: list[int]


class RolloutEngine:
    """Moves rollouts on. `wake` is called when something new is to be published; `pause` leaves room for others."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        assignments: AssignmentService,
        memberships: Memberships,
        evidence: EvidenceCollector,
        wake: Callable[[], None] = lambda: None,
        pause: Callable[[float], None] = time.sleep,
        batch: int = _BATCH_COUNT,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._assignments = assignments
        self._memberships = memberships
        self._evidence = evidence
        self._wake = wake
        self._pause = pause
        self._batch = batch
        self._swept_s: dict[int, float] = {}
        self._caught_up: set[int] = set()

    # --- one round ----------------------------------------------------------------------------------------------------
    def run(self) -> int:
        """Take in what changed and tick every rollout until none has anything more to do now; returns devices."""
        until_s = self._clock.monotonic() + _PASS_S
        self._politely(self.take_arrivals)
        done = 0
        with self._db.read() as connection:
            going = store.active_numbers(connection)
        self._politely(self.take_reports)
        while going:
            still = []
            for rollout_no in going:
                devices = self._politely(partial(self._guarded, rollout_no))
                done += devices
                if devices:
                    still.append(rollout_no)
            going = still if self._clock.monotonic() < until_s else []
        return done

    def _politely(self, step: Callable[[], _Done]) -> _Done:
        started_s = self._clock.monotonic()
        done = step()
        if done:
            self._pause(max(0.0, self._clock.monotonic() - started_s))
        return done

    def _guarded(self, rollout_no: int) -> int:
        try:
            self._sweep(rollout_no)
            return self.tick(rollout_no)
        except Exception:  # noqa: BLE001 - one rollout's defect must not stop the others
            _LOG.exception("the rollout number %d could not be moved on; it is tried again", rollout_no)
            return 0

    # --- what changed -------------------------------------------------------------------------------------------------
    def take_reports(self) -> int:
        """What devices said since; returns how many marks were taken."""
        total = 0
        while True:
            with self._db.write() as connection:
                taken = rollout_reports.take_reports(connection, _REPORTS_COUNT)
            total += taken
            if taken < _REPORTS_COUNT:
                return total

    def take_arrivals(self) -> int:
        """Devices that came or changed since: who belongs now, or no longer. Returns how many rows moved."""
        moved = 0
        while True:
            with self._db.read() as connection:
                if not rollout_members.has_arrivals(connection):
                    return moved
            with self._db.write() as connection:
                rollout_members.claim_arrivals(connection, _ARRIVALS_COUNT)
                for rollout_no in store.active_numbers(connection):
                    moved += self._reviewed(connection, rollout_no)
                rollout_members.drop_claimed(connection)

    def _reviewed(self, connection: Connection, rollout_no: int) -> int:
        """A rollout that cannot say who belongs to it looks at all devices once it can again; the others go on."""
        try:
            with connection.begin_nested():
                return self._review(connection, store.load_rollout(connection, rollout_no))
        except SkerryError:
            _LOG.exception("nobody can join the rollout number %d now", rollout_no)
            self._caught_up.discard(rollout_no)
            return 0

    def _review(self, connection: Connection, row: RolloutRow) -> int:
        among = rollout_members.claimed()
        membership = self._memberships.of(connection, row.plan, among)
        now_s = self._clock.now()
        moved = rollout_members.review(connection, row, membership, now_s)
        if row.plan.allow_new_devices:
            thresholds = store.thresholds_of(connection, row.rollout_no)
            moved += rollout_members.join(connection, row, membership, thresholds, now_s, among)
        if moved:
            store.bump_one(connection, row.rollout_no)
        return moved

    def _sweep(self, rollout_no: int) -> None:
        """Now and then: who fell silent after a success, and who belongs to it by what it reports."""
        now_s = self._clock.monotonic()
        if now_s - self._swept_s.get(rollout_no, float("-inf")) < _SWEEP_S:
            return
        self._swept_s[rollout_no] = now_s
        with self._db.write() as connection:
            row = store.load_rollout(connection, rollout_no)
            if self._sweep_silent(connection, row):
                store.bump_one(connection, rollout_no)
        behind = rollout_no not in self._caught_up
        if row.plan.allow_new_devices and (behind or is_volatile(row.plan)):
            self._catch_up(rollout_no)
        self._caught_up.add(rollout_no)

    def _catch_up(self, rollout_no: int) -> None:
        """All devices, some at a time: who belongs to it and is not written down yet."""
        last = ""
        while last := self._politely(partial(self._join_after, rollout_no, last)):
            _LOG.debug("the rollout number %d looked at the devices up to %s", rollout_no, last)

    def _join_after(self, rollout_no: int, after: str) -> str:
        """Some devices after this id; returns the last one's, empty if there are no more."""
        with self._db.write() as connection:
            found = rollout_members.slice_after(connection, after, _JOINED_COUNT)
            if found is None:
                return ""
            among, last = found
            row = store.load_rollout(connection, rollout_no)
            if row.rollout.progress.status in ENDED:
                return ""
            membership = self._memberships.of(connection, row.plan, among)
            thresholds = store.thresholds_of(connection, rollout_no)
            if rollout_members.join(connection, row, membership, thresholds, self._clock.now(), among):
                store.bump_one(connection, rollout_no)
            return last

    @staticmethod
    def _sweep_silent(connection: Connection, row: RolloutRow) -> int:
        moved = 0
        progress, plan = row.rollout.progress, row.plan
        for group_no, (group, stands) in enumerate(zip(plan.groups, progress.groups, strict=True)):
            if stands.status not in (GroupStatus.RUNNING, GroupStatus.BAKING, GroupStatus.AWAITING_APPROVAL):
                continue
            since_s = heard_since(row.marks, progress.clock.elapsed_s - observe_s(plan, group))
            if since_s is not None:
                moved += rollout_reports.sweep_vanished(connection, row, group_no, since_s)
        return moved

    # --- one tick -----------------------------------------------------------------------------------------------------
    def known(self, connection: Connection, row: RolloutRow, now_s: float) -> Known:
        """All that may be known of a rollout at `now_s`."""
        progress = row.rollout.progress
        elapsed_e = advance(progress.clock, int(now_s), row.rollout.created_s).clock.elapsed_s
        outranking = store.outranking(connection, row)
        groups = group_counts(connection, row, elapsed_e, outranking)
        evidence = self._evidence.collect(connection, row, now_s, elapsed_e)
        return Known(row, Counts(groups=groups, evidence=evidence), outranking)

    def tick(self, rollout_no: int) -> int:
        """Tick one rollout; returns how many devices were given something."""
        for _ in range(_TRIES_COUNT):
            now_s = self._clock.now()
            with self._db.read() as connection:
                row = store.load_rollout(connection, rollout_no)
                if row.rollout.progress.status in ENDED:
                    return 0
                known = self.known(connection, row, now_s)
            outcome = tick(row.rollout, known.counts, int(now_s), self._batch)
            try:
                done = self.commit(known, outcome, now_s, ENGINE)
            except SkerryError as error:
                if error.retriable:
                    raise
                self._halt(row, error)
                return 0
            if done is not None:
                return done
        return 0

    def commit(self, known: Known, outcome: Tick, now_s: float, actor: str) -> int | None:
        """Write what a tick or a command decided, if nothing has moved since; None: something has."""
        row = known.row
        events = news(row.rollout.progress, outcome, now_s, actor, known.counts)
        marks = marks_after(row.marks, row.plan, outcome.progress.clock)
        at = Moment(elapsed_e=outcome.progress.clock.elapsed_s, now_s=now_s)
        seen = bool(outcome.actions or events or outcome.progress.waits_for != row.rollout.progress.waits_for)
        with self._db.write() as connection:
            if not store.save_progress(connection, row, outcome.progress, marks, seen=seen):
                return None
            done = carry_out(connection, self._assignments, row, outcome.actions, at, known.outranking, self._batch)
            store.add_events(connection, row.rollout_no, events)
            for event in events:
                if audited(event):
                    detail = {"code": event.code, "message": event.message, "numbers": dict(event.numbers)}
                    self._audit.append(connection, event.by, action_of(event), row.rollout_id, detail)
        if done:
            self._wake()
        return done

    def _halt(self, row: RolloutRow, error: SkerryError) -> None:
        """The version cannot be assigned any more: pause, and say why."""
        _LOG.warning("the rollout %s is paused: %s", row.rollout_id, error)
        asked = Command(kind=CommandKind.PAUSE, by=ENGINE, note=f"{error.message} [{error.code}]")
        try:
            self.apply(row.rollout_id, asked)
        except Conflict as refused:
            _LOG.warning("the rollout %s cannot be paused: %s", row.rollout_id, refused)

    # --- what a person asks -------------------------------------------------------------------------------------------
    def apply(self, rollout_id: str, asked: Command) -> None:
        """Carry out a person's command; errors `rollout.unknown`, `rollout.state`, `rollout.group`, `rollout.busy`."""
        for _ in range(_TRIES_COUNT):
            now_s = self._clock.now()
            with self._db.read() as connection:
                known = self.known(connection, store.get_rollout(connection, rollout_id), now_s)
            outcome = command(known.row.rollout, asked, known.counts, int(now_s))
            if self.commit(known, outcome, now_s, asked.by) is not None:
                return
        raise Conflict("rollout.busy", "The rollout is changing at this moment.", hint="Try again.", retriable=True)
