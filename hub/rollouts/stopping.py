"""How a rollout stops: because a group or a gate failed, its end time came, or all of it is superseded; and what is
then done with its devices, again at each tick until the counts say that it is done.
"""

from __future__ import annotations

from hub.rollouts.draft import Draft
from hub.rollouts.plan import AtEnd, Mode, OnFailure, Scope
from hub.rollouts.state import (
    ChangeKind,
    GroupStatus,
    Reason,
    RollBack,
    Status,
    Withdraw,
)
from hub.rollouts.timing import observe_s

__all__ = ["abort", "check_end", "fail", "finish_if_done", "return_devices", "roll_back", "withdraw"]


def fail(draft: Draft, group_no: int, reason: Reason, on_failure: OnFailure) -> None:
    """A group failed, by its counts or by a gate: do what the plan says.

    Once all groups have passed, devices that came late only pause the rollout: it does not take back a whole fleet.
    """
    complete = all(group.status is GroupStatus.PASSED for group in draft.progress.groups)
    draft.set_group(group_no, status=GroupStatus.FAILED, ended_s=draft.elapsed_s, waits_for=reason)
    draft.note(ChangeKind.GROUP_FAILED, reason, group_no)
    if complete or on_failure is OnFailure.PAUSE:
        if draft.status not in (Status.PAUSED, Status.ENDING):
            draft.enter(Status.PAUSED, ChangeKind.PAUSED, reason, resume_to=draft.status)
    elif on_failure is OnFailure.ABORT:
        abort(draft, reason)
    else:
        roll_back(draft, reason, (group_no,) if draft.plan.scope is Scope.GROUP else tuple(draft.started()))


def abort(draft: Draft, reason: Reason) -> None:
    """Assign nothing more, and take it back from devices that have not finished."""
    draft.enter(Status.ABORTING, ChangeKind.ABORTING, reason, resume_to=None)


def roll_back(draft: Draft, reason: Reason, groups: tuple[int, ...]) -> None:
    """Return the devices of these groups to what each had before; elsewhere take back what is under way."""
    draft.enter(Status.ROLLING_BACK, ChangeKind.ROLLING_BACK, reason, resume_to=None, returning=groups)


def check_end(draft: Draft) -> None:
    """Do what the plan says at the end time. A clock that jumped a short while ago ends nothing."""
    plan = draft.plan
    if plan.end_s is None or draft.now_s < plan.end_s or not (draft.may_expose and draft.step.settled):
        return
    if draft.status not in (Status.PLANNED, Status.RUNNING, Status.PAUSED, Status.KEEPING):
        return
    reason = Reason(code="rollout.end_time", message="The end time came.", numbers={"end_s": plan.end_s})
    if not draft.started():
        abort(draft, reason)
    elif draft.status is Status.KEEPING or plan.at_end is AtEnd.STOP_ASSIGNING:
        draft.enter(Status.ENDING, ChangeKind.ENDING, reason, resume_to=None)
    elif plan.at_end is AtEnd.ABORT:
        abort(draft, reason)
    else:
        roll_back(draft, reason, tuple(draft.started()))


# --- what is done until the counts agree ----------------------------------------------------------------------------
def withdraw(draft: Draft) -> None:
    """Aborting: take back what is under way; done when nothing is."""
    for group_no, counts in enumerate(draft.counts.groups):
        if counts.under_way > 0:
            draft.actions.append(Withdraw(group_no=group_no))
    if not draft.actions:
        reason = draft.progress.reason or Reason(code="rollout.aborted", message="Aborted.")
        draft.enter(Status.ABORTED, ChangeKind.ABORTED, reason)


def return_devices(draft: Draft) -> None:
    """Rolling back: return what is covered, take back what is under way elsewhere.

    Done when every device has confirmed, or the observation time is over: who is offline gets it when it comes back.
    """
    returning = set(draft.progress.returning)
    for group_no, counts in enumerate(draft.counts.groups):
        if group_no in returning and counts.exposed > 0:
            draft.actions.append(RollBack(group_no=group_no))
        elif counts.under_way > 0:
            draft.actions.append(Withdraw(group_no=group_no))
    pending = sum(counts.rolling_back for counts in draft.counts.groups)
    patience_s = max(observe_s(draft.plan, group) for group in draft.plan.groups)
    if draft.actions or (pending > 0 and draft.elapsed_s - draft.progress.since_s < patience_s):
        return
    returned = sum(counts.rolled_back for counts in draft.counts.groups)
    why = draft.progress.reason
    reason = Reason(
        code=why.code if why else "rollout.rolled_back",
        message=why.message if why else "Rolled back.",
        numbers={"rolled_back": returned, "not_confirmed": pending},
    )
    draft.enter(Status.ROLLED_BACK, ChangeKind.ROLLED_BACK, reason)


def finish_if_done(draft: Draft) -> None:
    """Ending: done when no device is under way that still gives signs. What was only prepared is taken back first, and
    a shadow is taken away from all."""
    shadow = draft.plan.mode is Mode.SHADOW
    for group_no, counts in enumerate(draft.counts.groups):
        prepared = draft.plan.groups[group_no].prepare and not draft.progress.groups[group_no].switched
        if counts.under_way * (prepared or shadow) + counts.succeeded * shadow > 0:
            draft.actions.append(Withdraw(group_no=group_no, also_succeeded=shadow))
    if draft.actions:
        return
    moving = sum(counts.under_way - counts.unreached - counts.silent for counts in draft.counts.groups)
    if moving <= 0:
        reason = draft.progress.reason or Reason(code="rollout.finished", message="Finished.")
        draft.enter(Status.FINISHED, ChangeKind.FINISHED, reason)
