"""The engine: `tick(rollout, counts, now_s) -> Tick`. Pure and idempotent.

Rules, in this order: an ended rollout does nothing. Engine time moves. What has failed stops the rollout before
anything else is considered. Groups go on, and then devices are exposed, only while it runs and the clock is steady.
What a status wants done is asked for again at each tick until the counts say that it is done, so nothing depends on
memory or on an action having been carried out. Given the counts that its own actions lead to, a second tick at the same
time adds nothing.
"""

from __future__ import annotations

from hub.rollouts.advance import SUPERSEDED, go_on, is_superseded, judge
from hub.rollouts.clockwork import advance
from hub.rollouts.counts import Counts
from hub.rollouts.draft import Draft
from hub.rollouts.exposure import accrue, expose
from hub.rollouts.state import ChangeKind, Reason, Rollout, Status, Tick
from hub.rollouts.stopping import check_end, finish_if_done, return_devices, withdraw
from shared.errors import InternalError

__all__ = ["BATCH", "draft_of", "tick"]

BATCH = 2000
"""Devices that one tick may ask for, so that its transaction stays short."""

_SUPERVISED = frozenset({Status.RUNNING, Status.PAUSED, Status.KEEPING, Status.ENDING})


def tick(rollout: Rollout, counts: Counts, now_s: int, batch: int = BATCH) -> Tick:
    """What to do now. now_s: the wall clock, seconds since 1970. batch: devices that the actions may add up to."""
    draft = draft_of(rollout, counts, now_s)
    if draft.is_over:
        return Tick(progress=rollout.progress)
    draft.set(clock=draft.step.clock, waits_for=None)
    _notice_the_clock(draft)
    accrue(draft)
    if draft.status in _SUPERVISED:
        judge(draft)
    check_end(draft)
    if draft.status is Status.KEEPING and is_superseded(draft):
        draft.enter(Status.ENDING, ChangeKind.ENDING, SUPERSEDED)
    if draft.status is Status.PLANNED:
        _start(draft)
    if draft.may_expose:
        go_on(draft)
    _act(draft, batch)
    return draft.outcome()


def draft_of(rollout: Rollout, counts: Counts, now_s: int) -> Draft:
    """A draft in which nothing has happened yet; counts that do not fit the plan are a defect."""
    if not len(counts.groups) == len(rollout.plan.groups) == len(rollout.progress.groups):
        raise InternalError("rollout.counts", "The counts do not fit the groups of the rollout.")
    step = advance(rollout.progress.clock, now_s, rollout.created_s)
    return Draft(rollout=rollout, counts=counts, now_s=now_s, step=step, progress=rollout.progress)


def _notice_the_clock(draft: Draft) -> None:
    if draft.may_expose:
        return
    sane = draft.step.sane
    moved = draft.now_s - (draft.rollout.progress.clock.wall_s or draft.rollout.created_s)
    reason = Reason(
        code="wait.clock" if sane else "wait.clock_wrong",
        message="The clock jumped or the hub was away; nothing is assigned at this tick."
        if sane
        else "The hub's clock is before this rollout was created; nothing is assigned until it is right.",
        numbers={"moved_s": moved},
    )
    if not draft.step.steady:
        draft.note(ChangeKind.CLOCK_MOVED, reason)
    draft.set(waits_for=reason)


def _start(draft: Draft) -> None:
    start_s = draft.plan.start_s
    if draft.may_expose and (start_s is None or draft.now_s >= start_s):
        draft.enter(Status.RUNNING, ChangeKind.STARTED, Reason(code="rollout.started", message="Started."))
    elif draft.may_expose and start_s is not None:
        draft.set(
            waits_for=Reason(code="wait.start", message="Its start time has not come.", numbers={"start_s": start_s})
        )


def _act(draft: Draft, batch: int) -> None:
    if draft.status is Status.ABORTING:
        withdraw(draft)
    elif draft.status is Status.ROLLING_BACK:
        return_devices(draft)
    elif draft.status is Status.ENDING:
        finish_if_done(draft)
    elif draft.status in (Status.RUNNING, Status.KEEPING) and draft.may_expose:
        expose(draft, batch)
