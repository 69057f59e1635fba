"""What a person may do to a rollout, and when. A command only changes the progress; the next tick acts on it."""

from __future__ import annotations

from hub.rollouts.counts import Counts
from hub.rollouts.draft import Draft
from hub.rollouts.judging import is_stalled
from hub.rollouts.state import (
    ENDED,
    ChangeKind,
    Command,
    CommandKind,
    GroupProgress,
    GroupStatus,
    Reason,
    Rollout,
    Status,
    Tick,
)
from hub.rollouts.stopping import abort, roll_back
from hub.rollouts.tick import draft_of
from shared.errors import Conflict, InvalidInput

__all__ = ["command"]

_PAUSABLE = frozenset({Status.PLANNED, Status.RUNNING, Status.KEEPING})
_ENDING = frozenset({Status.ENDING, Status.ABORTING, Status.ROLLING_BACK}) | ENDED


def command(rollout: Rollout, asked: Command, counts: Counts, now_s: int) -> Tick:
    """Apply what a person asked; errors `rollout.state` (not possible now), `rollout.group` (no such group)."""
    draft = draft_of(rollout, counts, now_s)
    reason = Reason(code=f"command.{asked.kind}", message=_words(asked))
    {
        CommandKind.PAUSE: _pause,
        CommandKind.RESUME: _resume,
        CommandKind.APPROVE: _approve,
        CommandKind.ABORT: _abort,
        CommandKind.ROLL_BACK: _roll_back,
        CommandKind.FINISH: _finish,
    }[asked.kind](draft, asked, reason)
    return draft.outcome()


def _words(asked: Command) -> str:
    return f"{asked.by or 'Somebody'} asked for {asked.kind}" + (f": {asked.note}" if asked.note else ".")


def _refuse(draft: Draft, asked: Command, hint: str) -> Conflict:
    return Conflict(
        "rollout.state",
        f"The rollout is {draft.status.replace('_', ' ')}; {asked.kind} is not possible now.",
        hint=hint,
        detail={"status": draft.status.value},
    )


def _pause(draft: Draft, asked: Command, reason: Reason) -> None:
    if draft.status not in _PAUSABLE:
        raise _refuse(draft, asked, "Only a rollout that is planned, running or keeping can pause.")
    draft.enter(Status.PAUSED, ChangeKind.PAUSED, reason, resume_to=draft.status)


def _resume(draft: Draft, asked: Command, reason: Reason) -> None:
    if draft.status is not Status.PAUSED:
        raise _refuse(draft, asked, "Only a paused rollout can resume.")
    for group_no, group in enumerate(draft.progress.groups):
        if group.status is GroupStatus.FAILED:
            _forgive(draft, group_no, group, reason)
    draft.enter(draft.progress.resume_to or Status.RUNNING, ChangeKind.RESUMED, reason, resume_to=None)


def _forgive(draft: Draft, group_no: int, group: GroupProgress, reason: Reason) -> None:
    """Let a failed group go on: its errors so far no longer count, the next ones do, against the same limits."""
    holding = draft.plan.groups[group_no].prepare and not group.switched
    status = GroupStatus.PREPARING if holding else GroupStatus.RUNNING
    if draft.progress.resume_to in (Status.KEEPING, Status.ENDING):
        status = GroupStatus.PASSED
    forgiven = draft.counts.groups[group_no].errors
    draft.set_group(group_no, status=status, forgiven=forgiven, ended_s=None, approved=False, waits_for=None)
    draft.note(ChangeKind.GROUP_RESUMED, reason, group_no)


def _approve(draft: Draft, asked: Command, reason: Reason) -> None:
    at = next((no for no, g in enumerate(draft.progress.groups) if g.status is not GroupStatus.PASSED), None)
    if draft.status is not Status.RUNNING or at is None or not _waits_for_a_person(draft, at):
        raise _refuse(draft, asked, "No group waits for an approval; `explain` and `watch` say what it waits for.")
    draft.set_group(at, approved=True)
    draft.note(ChangeKind.APPROVED, reason, at)


def _waits_for_a_person(draft: Draft, at: int) -> bool:
    """Whether an approval changes anything: the plan asks for one, or only silence or missing samples hold it."""
    group, counts = draft.progress.groups[at], draft.counts.groups[at]
    if group.approved:
        return False
    if group.status in (GroupStatus.READY, GroupStatus.AWAITING_APPROVAL):
        return True
    if group.status in (GroupStatus.RUNNING, GroupStatus.PREPARING):
        return is_stalled(counts) or counts.members == 0
    baked = (group.baking_since_s or 0) + draft.plan.groups[at].bake_s <= draft.elapsed_s
    return group.status is GroupStatus.BAKING and baked


def _abort(draft: Draft, asked: Command, reason: Reason) -> None:
    if draft.status in _ENDING - {Status.ENDING}:
        raise _refuse(draft, asked, "It has ended or is about to; roll it back to return its devices.")
    abort(draft, reason)


def _roll_back(draft: Draft, asked: Command, reason: Reason) -> None:
    started = draft.started()
    if asked.group_no is not None and not 0 <= asked.group_no < len(draft.plan.groups):
        raise InvalidInput("rollout.group", f"The rollout has no group {asked.group_no}.", hint="Groups count from 0.")
    groups = tuple(started) if asked.group_no is None else (asked.group_no,)
    reached = any(draft.counts.groups[no].exposed or draft.counts.groups[no].rolling_back for no in groups)
    if not reached or (draft.status is Status.ROLLING_BACK and set(groups) <= set(draft.progress.returning)):
        raise _refuse(draft, asked, "No device of it has anything to return from; abort it instead.")
    if draft.status is Status.ROLLING_BACK:
        groups = tuple(sorted({*groups, *draft.progress.returning}))
    roll_back(draft, reason, groups)


def _finish(draft: Draft, asked: Command, reason: Reason) -> None:
    keeping = draft.status is Status.KEEPING or draft.progress.resume_to is Status.KEEPING
    if not keeping:
        raise _refuse(draft, asked, "Only a rollout of which all groups have passed can be finished; abort it instead.")
    draft.enter(Status.ENDING, ChangeKind.ENDING, reason, resume_to=None)
