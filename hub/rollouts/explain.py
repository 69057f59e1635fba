"""Why a device has the version that it has, and what it waits for: one answer for each of its models. Pure.

The device's own word says what serves; the newest assignment says what should; the rollout that it follows says why,
and what has to happen next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hub.rollouts.counts import DeviceState
from hub.rollouts.state import ENDED, GroupStatus, Reason, Rollout, Status
from hub.store.rollout_views import Membership, Standing

__all__ = ["Explanation", "ModelExplanation", "explain"]

_SETTLED = ("committed", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExplanation:
    """One model on the device. waits_for None: nothing is outstanding."""

    model: str
    serves: int | None
    wanted: int | None
    deployment_id: str | None
    because: Reason
    waits_for: Reason | None
    rollouts: list[Membership] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All models of a device."""

    device_id: str
    models: list[ModelExplanation]


def explain(
    standing: Standing, memberships: Sequence[Membership], rollouts: Mapping[str, Rollout], now_s: float
) -> ModelExplanation:
    """Explain one model; `rollouts`: those of the memberships, by id."""
    going = [one for one in memberships if rollouts[one.rollout_id].progress.status not in ENDED]
    waiting = next((one for one in going if one.state == DeviceState.WAITING), None)
    owner = next((one for one in memberships if one.current), None)
    return ModelExplanation(
        model=standing.model,
        serves=standing.serves,
        wanted=standing.wanted,
        deployment_id=standing.deployment_id,
        because=_because(standing, owner),
        waits_for=_outstanding(standing, now_s) or _for_rollout(waiting, rollouts),
        rollouts=list(memberships),
    )


def _because(standing: Standing, owner: Membership | None) -> Reason:
    """Why the device has what it has."""
    if standing.wanted is None and standing.serves is None:
        return _reason("explain.nothing", "It serves no version, and none was assigned.")
    if standing.wanted is None:
        return _reason("explain.kept", f"It serves version {standing.serves}; no version is assigned now.")
    who = f"deployment {standing.deployment_id}"
    if owner is not None and owner.rollout_id == standing.deployment_id:
        returned = owner.state in (DeviceState.ROLLED_BACK, DeviceState.ROLLING_BACK, DeviceState.WITHDRAWN)
        who = f"{'the roll-back of ' if returned else ''}rollout {owner.rollout_id} (group {owner.group})"
    if standing.serves == standing.wanted:
        return _reason("explain.assigned", f"It serves version {standing.serves}, which {who} assigned.")
    if standing.mode == "shadow":
        return _reason("explain.shadow", f"Version {standing.wanted} runs beside version {standing.serves}, by {who}.")
    had = "no version" if standing.serves is None else f"version {standing.serves}"
    return _reason("explain.differs", f"It serves {had}; {who} assigned version {standing.wanted}.")


def _outstanding(standing: Standing, now_s: float) -> Reason | None:
    """What stands between what serves and what is assigned, in the device's own words if it said any."""
    if standing.wanted is None or standing.serves == standing.wanted or standing.mode == "shadow":
        return None
    if not standing.spoken:  # whatever it said last was about something older
        if standing.published_s is None:
            return _reason("explain.unsent", "The hub has still to send the assignment to it.")
        seen = "It was never heard of." if standing.last_seen_s is None else _seen(now_s - standing.last_seen_s)
        return _reason("explain.not_taken_up", f"It has not taken up the assignment. {seen}")
    if standing.state in ("rolled_back", "inconsistent"):
        why = f": {standing.reason} [{standing.reason_code}]" if standing.reason_code else "."
        return _reason("explain.refused", f"It tried the version and went back{why}")
    if standing.state == "held":
        return _reason(standing.reason_code or "explain.held", standing.reason or "The version is ready, and waits.")
    if standing.state and standing.state not in _SETTLED:
        return _reason("explain.installing", f"It is at work on it: {standing.state}.")
    return _reason("explain.not_serving", "It is through with the assignment, and serves something else.")


def _seen(ago_s: float) -> str:
    return f"It was last heard of {max(0, int(ago_s))} seconds ago."


def _for_rollout(waiting: Membership | None, rollouts: Mapping[str, Rollout]) -> Reason | None:
    """What has to happen until the rollout that the device waits in gives it the version."""
    if waiting is None:
        return None
    rollout = rollouts[waiting.rollout_id]
    progress = rollout.progress
    group = progress.groups[waiting.group_no]
    head = f"Rollout {waiting.rollout_id} will give it version {waiting.version} in its group {waiting.group}"
    if progress.status in (Status.PAUSED, Status.PLANNED):
        why = progress.reason or progress.waits_for
        return _joined(f"{head}, and is {progress.status}", why)
    if group.status is GroupStatus.WAITING:
        at = next((one for one in progress.groups if one.status is not GroupStatus.PASSED), group)
        number = progress.groups.index(at)
        before = f"group {rollout.plan.groups[number].name} comes first and is {at.status.replace('_', ' ')}"
        return _joined(f"{head}; {before}", at.waits_for)
    return _joined(head, progress.waits_for or group.waits_for)


def _joined(text: str, why: Reason | None) -> Reason:
    if why is None:
        return _reason("explain.waiting", f"{text}.")
    return Reason(code=why.code, message=f"{text}: {why.message}", numbers=why.numbers)


def _reason(code: str, message: str) -> Reason:
    return Reason(code=code, message=message)
