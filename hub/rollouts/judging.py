"""What the counts of one group say: failed, succeeded, or what is still missing. Whole numbers, cross-multiplied.

Rules: success counts against every member that can get the version, so one that is silent, unreached or not assigned
yet counts against it. Errors are failed and reverted devices, those that went silent after they had taken it up, and
those that try once more after a failure; their share is of the devices that ended, and counts from the minimum sample,
except that errors which already exceed the share of the *whole* group need no sample. A group that cannot succeed any
more has failed, so that none waits for ever on devices that said no.
"""

from __future__ import annotations

from hub.rollouts.counts import GroupCounts
from hub.rollouts.plan import Group
from hub.rollouts.state import GroupProgress, Reason

__all__ = ["WHOLE_BP", "failure", "has_staged", "has_succeeded", "is_stalled", "missing", "percent"]

WHOLE_BP = 10_000


def failure(group: Group, counts: GroupCounts, progress: GroupProgress) -> Reason | None:
    """Why the group has failed; None: it has not. What a person forgave at a resume does not count."""
    errors = max(0, counts.errors - progress.forgiven)
    ended = counts.succeeded + errors
    numbers = {"errors": errors, "ended": ended, "members": counts.members}
    if group.max_failures is not None and errors > group.max_failures:
        return Reason(
            code="group.too_many_failures",
            message=f"{errors} devices failed; at most {group.max_failures} may.",
            numbers=numbers | {"max_failures": group.max_failures},
        )
    if group.error_bp is not None and _over_share(group.error_bp, group.min_sample, errors, ended, counts.members):
        return Reason(
            code="group.error_rate",
            message=f"{errors} of {ended} devices failed; at most {percent(group.error_bp)} may.",
            numbers=numbers | {"error_bp": group.error_bp, "min_sample": group.min_sample},
        )
    lost = max(0, counts.failed - counts.retry_left + counts.reverted - progress.forgiven)
    if (counts.members - lost) * WHOLE_BP < group.success_bp * counts.members:
        return Reason(
            code="group.success_out_of_reach",
            message=f"{lost} of {counts.members} devices failed for good; {percent(group.success_bp)} must succeed.",
            numbers=numbers | {"lost": lost, "success_bp": group.success_bp},
        )
    return None


def _over_share(error_bp: int, min_sample: int, errors: int, ended: int, members: int) -> bool:
    if errors * WHOLE_BP <= error_bp * ended:
        return False
    return ended >= min(min_sample, members) or errors * WHOLE_BP > error_bp * members


def has_succeeded(group: Group, counts: GroupCounts, forgiven: int = 0) -> bool:
    """Whether enough members have succeeded. `forgiven` errors are left out of the members."""
    succeeded = counts.succeeded - counts.vanished
    ended = counts.succeeded + counts.errors
    judged = _judged(group, counts, forgiven)
    return (
        judged > 0
        and ended >= min(group.min_sample, counts.members)
        and succeeded * WHOLE_BP >= group.success_bp * judged
    )


def has_staged(group: Group, counts: GroupCounts) -> bool:
    """Whether enough members hold the version, or went on from there, for all to switch."""
    there = counts.staged + counts.installing + counts.succeeded
    return counts.members > 0 and there * WHOLE_BP >= group.success_bp * counts.members


def _judged(group: Group, counts: GroupCounts, forgiven: int) -> int:
    aside = min(forgiven, counts.errors) + (0 if group.count_unreached else counts.unreached)
    return max(0, counts.members - aside)


def is_stalled(counts: GroupCounts) -> bool:
    """Whether nothing is going on but silence: all are assigned, and no device that is under way gives a sign."""
    quiet = counts.unreached + counts.silent
    return counts.assignable == 0 and counts.retry_left == 0 and counts.under_way <= quiet and quiet > 0


def missing(group: Group, counts: GroupCounts) -> Reason:
    """What a group that has neither failed nor succeeded waits for."""
    numbers = {
        "succeeded": counts.succeeded,
        "members": counts.members,
        "waiting": counts.waiting,
        "under_way": counts.under_way,
        "unreached": counts.unreached,
        "silent": counts.silent,
        "errors": counts.errors,
        "success_bp": group.success_bp,
    }
    if is_stalled(counts):
        return Reason(
            code="group.stalled",
            message=f"{counts.unreached} devices have not taken it up and {counts.silent} gave no more sign; "
            f"{counts.succeeded} of {counts.members} succeeded, {percent(group.success_bp)} must.",
            numbers=numbers,
        )
    return Reason(
        code="group.under_way",
        message=f"{counts.succeeded} of {counts.members} devices succeeded; {percent(group.success_bp)} must.",
        numbers=numbers,
    )


def percent(share_bp: int) -> str:
    """Basis points for people: `12.5 %`."""
    whole, rest = divmod(share_bp, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") + " %"
