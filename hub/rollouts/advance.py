"""How groups go on: one after the other, each only after the one before has passed.

    waiting -> (preparing -> ready ->) running -> baking -> awaiting_approval -> passed
                      any: failed, by its own counts or by a gate

Rules: a group passes when enough devices succeeded, its bake time went by and no gate fails; a gate without enough
samples holds it, unless the plan lets it pass. A person's approval stands in for missing successes of silent devices
and for missing samples, never for a failure and never for the bake time. The first group with anybody in it is the one
that speaks for the version, so a group with nobody in it before that waits.
"""

from __future__ import annotations

from hub.rollouts.draft import Draft
from hub.rollouts.gates import judge_gate, overall
from hub.rollouts.judging import failure, has_staged, has_succeeded, is_stalled, missing
from hub.rollouts.plan import Mode, OnInconclusive
from hub.rollouts.state import ChangeKind, GateResult, GroupStatus, Reason, Status, Verdict
from hub.rollouts.stopping import abort, fail

__all__ = ["SUPERSEDED", "go_on", "is_superseded", "judge"]

_STEPS_PER_GROUP = 8
_MAX_RESULTS_COUNT = 200
"""Verdicts that are kept in the progress; of more than that, those of profiles that do not fail are left out."""
SUPERSEDED = Reason(
    code="rollout.superseded", message="Newer rollouts, or people, gave all its devices something else."
)


# --- judging: may stop the rollout, never exposes ---------------------------------------------------------------------
def judge(draft: Draft) -> None:
    """Hold every started group to its limits, and the rollout to its gates; the first failure stops it."""
    for group_no in draft.started():
        progress = draft.progress.groups[group_no]
        if progress.status is GroupStatus.FAILED:
            continue
        if draft.counts.groups[group_no].errors < progress.forgiven:
            progress = draft.set_group(group_no, forgiven=draft.counts.groups[group_no].errors)
        reason = failure(draft.plan.groups[group_no], draft.counts.groups[group_no], progress)
        if reason is not None:
            fail(draft, group_no, reason, draft.plan.on_failure)
            return
    if draft.status not in (Status.KEEPING, Status.ENDING):
        _judge_gates(draft)


def _judge_gates(draft: Draft) -> None:
    started = draft.started()
    if not started or not any(counts.exposed for counts in draft.counts.groups):
        return
    results: list[GateResult] = []
    failed: GateResult | None = None
    for gate_no, gate in enumerate(draft.plan.gates):
        judged = judge_gate(gate_no, gate, draft.counts.evidence)
        results.extend(judged)
        if failed is None and overall(judged).verdict is Verdict.FAIL:
            failed = overall(judged)
    if len(results) > _MAX_RESULTS_COUNT:
        results = [result for result in results if not result.profile or result.verdict is Verdict.FAIL]
    draft.set(gates=tuple(results))
    group_no = started[-1]
    if failed is not None and draft.progress.groups[group_no].status is not GroupStatus.FAILED:
        draft.note(ChangeKind.GATE_FAILED, failed.reason, group_no)
        fail(draft, group_no, failed.reason, draft.plan.gates[failed.gate_no].on_fail)


# --- going on ---------------------------------------------------------------------------------------------------------
def go_on(draft: Draft) -> None:
    """Take every step that is due, so that a second tick with the same counts takes none."""
    for _ in range(_STEPS_PER_GROUP * len(draft.plan.groups)):
        if draft.status is not Status.RUNNING or not _step(draft):
            break
    if draft.status is Status.RUNNING and all(g.status is GroupStatus.PASSED for g in draft.progress.groups):
        _complete(draft)


def _complete(draft: Draft) -> None:
    succeeded = sum(counts.succeeded for counts in draft.counts.groups)
    reason = Reason(code="rollout.passed", message="All groups passed.", numbers={"succeeded": succeeded})
    if draft.plan.mode is Mode.SHADOW:
        draft.enter(Status.ENDING, ChangeKind.ENDING, reason)
    elif draft.plan.allow_new_devices:
        draft.enter(Status.KEEPING, ChangeKind.KEEPING, reason)
    else:
        draft.enter(Status.FINISHED, ChangeKind.FINISHED, reason)


def _step(draft: Draft) -> bool:
    """One step of the first group that has not passed; whether there was one."""
    at = next((no for no, group in enumerate(draft.progress.groups) if group.status is not GroupStatus.PASSED), None)
    if at is None:
        return False
    before = draft.progress.groups[at].status
    if before is GroupStatus.WAITING:
        _begin(draft, at)
    elif before in (GroupStatus.PREPARING, GroupStatus.READY):
        _prepare(draft, at)
    elif before is GroupStatus.RUNNING:
        _run(draft, at)
    elif before is GroupStatus.BAKING:
        _bake(draft, at)
    elif before is GroupStatus.AWAITING_APPROVAL and draft.progress.groups[at].approved:
        _passed(draft, at, Reason(code="group.approved", message="A person let it pass."))
    return draft.status is Status.RUNNING and draft.progress.groups[at].status is not before


def _begin(draft: Draft, at: int) -> None:
    status = GroupStatus.PREPARING if draft.plan.groups[at].prepare else GroupStatus.RUNNING
    draft.set_group(at, status=status, started_s=draft.elapsed_s, approved=False, waits_for=None)
    members = draft.counts.groups[at].members
    reason = Reason(code="group.started", message=f"{members} devices.", numbers={"members": members})
    draft.note(ChangeKind.GROUP_STARTED, reason, at)


def _prepare(draft: Draft, at: int) -> None:
    group, counts, progress = draft.plan.groups[at], draft.counts.groups[at], draft.progress.groups[at]
    numbers = {"staged": counts.staged, "members": counts.members}
    if progress.status is GroupStatus.PREPARING and _is_empty(draft, at):
        draft.set_group(at, status=GroupStatus.RUNNING, switched=True)
    elif progress.status is GroupStatus.PREPARING and not (has_staged(group, counts) or progress.approved):
        message = f"{counts.staged} of {counts.members} devices hold it ready."
        draft.set_group(at, waits_for=Reason(code="group.preparing", message=message, numbers=numbers))
    elif progress.approved or not group.approve:
        draft.set_group(at, status=GroupStatus.RUNNING, switched=True, approved=False, waits_for=None)
        message = f"{counts.staged} of {counts.members} devices switch."
        draft.note(ChangeKind.GROUP_SWITCHED, Reason(code="group.switched", message=message, numbers=numbers), at)
    elif progress.status is GroupStatus.PREPARING:
        reason = Reason(code="group.ready", message="Prepared; a person lets the devices switch.", numbers=numbers)
        draft.set_group(at, status=GroupStatus.READY, waits_for=reason)
        draft.note(ChangeKind.GROUP_PREPARED, reason, at)


def _run(draft: Draft, at: int) -> None:
    group, counts, progress = draft.plan.groups[at], draft.counts.groups[at], draft.progress.groups[at]
    if is_superseded(draft):
        abort(draft, SUPERSEDED)
    elif _is_empty(draft, at):
        _run_empty(draft, at)
    elif has_succeeded(group, counts, progress.forgiven) or progress.approved:
        draft.set_group(at, status=GroupStatus.BAKING, baking_since_s=draft.elapsed_s, waits_for=None)
        numbers = {"succeeded": counts.succeeded, "members": counts.members, "bake_s": group.bake_s}
        message = f"{counts.succeeded} of {counts.members} devices succeeded."
        draft.note(ChangeKind.GROUP_BAKING, Reason(code="group.baking", message=message, numbers=numbers), at)
    else:
        reason = missing(group, counts)
        was = progress.waits_for.code if progress.waits_for else ""
        if is_stalled(counts) and was != reason.code:
            draft.note(ChangeKind.GROUP_STALLED, reason, at)
        draft.set_group(at, waits_for=reason)


def _run_empty(draft: Draft, at: int) -> None:
    spoken = any(counts.exposed for counts in draft.counts.groups[:at])
    if spoken or draft.progress.groups[at].approved:
        _passed(draft, at, Reason(code="group.empty", message="Nobody is in it."))
        return
    counts = draft.counts.groups[at]
    message = "Nobody is in it yet, and the version has not been tried in a group before it."
    if counts.held or counts.superseded or counts.skipped:
        message = f"Other rollouts have its devices ({counts.held + counts.superseded}), or they cannot get it."
    numbers = {"held": counts.held, "superseded": counts.superseded, "skipped": counts.skipped}
    draft.set_group(at, waits_for=Reason(code="group.nobody", message=message, numbers=numbers))


def _bake(draft: Draft, at: int) -> None:
    group, counts, progress = draft.plan.groups[at], draft.counts.groups[at], draft.progress.groups[at]
    if not progress.approved and not has_succeeded(group, counts, progress.forgiven):
        draft.set_group(at, status=GroupStatus.RUNNING, baking_since_s=None, waits_for=None)
        return
    left_s = (progress.baking_since_s or 0) + group.bake_s - draft.elapsed_s
    unsure = _unsure_gate(draft)
    if left_s > 0:
        message = f"The bake time of {group.bake_s} s is going on."
        draft.set_group(at, waits_for=Reason(code="group.baking", message=message, numbers={"left_s": left_s}))
    elif unsure is not None and not progress.approved:
        draft.set_group(at, waits_for=unsure.reason)
    elif group.approve and not group.prepare and not progress.approved and at + 1 < len(draft.plan.groups):
        reason = Reason(code="group.awaits_approval", message="A person lets the next group begin.")
        draft.set_group(at, status=GroupStatus.AWAITING_APPROVAL, waits_for=reason)
        draft.note(ChangeKind.GROUP_AWAITS_APPROVAL, reason, at)
    else:
        numbers = {"succeeded": counts.succeeded, "errors": counts.errors, "members": counts.members}
        message = f"{counts.succeeded} of {counts.members} devices succeeded; no gate failed."
        _passed(draft, at, Reason(code="group.passed", message=message, numbers=numbers))


def _unsure_gate(draft: Draft) -> GateResult | None:
    """The first gate that neither passed nor may be passed over. Gates that were never judged are unsure too."""
    for gate_no, gate in enumerate(draft.plan.gates):
        judged = overall([r for r in draft.progress.gates if r.gate_no == gate_no] or judge_gate(gate_no, gate, ()))
        if judged.verdict is Verdict.PASS:
            continue
        if judged.verdict is Verdict.FAIL or gate.on_inconclusive is OnInconclusive.WAIT:
            return judged
    return None


def _passed(draft: Draft, at: int, reason: Reason) -> None:
    draft.set_group(at, status=GroupStatus.PASSED, ended_s=draft.elapsed_s, waits_for=None)
    draft.note(ChangeKind.GROUP_PASSED, reason, at)


def _is_empty(draft: Draft, at: int) -> bool:
    return draft.counts.groups[at].members == 0


def is_superseded(draft: Draft) -> bool:
    """Whether the rollout reached devices, and every one of them has been taken by something newer."""
    groups = draft.counts.groups
    return any(counts.superseded for counts in groups) and not any(counts.members for counts in groups)
