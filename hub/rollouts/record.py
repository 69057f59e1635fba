"""What a tick or a command leaves in the record: what happened, gates that changed their verdict, and how it ended."""

from __future__ import annotations

from hub.rollouts.counts import Counts, DeviceState
from hub.rollouts.state import ENDED, ChangeKind, Progress, Tick
from hub.store.rollouts import EventRow

__all__ = ["action_of", "audited", "news"]

_GATE = "gate_verdict"
_COUNTS = "final_counts"
_QUIET = frozenset({ChangeKind.CLOCK_MOVED.value, _GATE, _COUNTS})


def news(before: Progress, outcome: Tick, now_s: float, by: str, counts: Counts) -> list[EventRow]:
    """The entries, in order, without numbers of their own yet."""
    after = outcome.progress
    rows = [
        _event(now_s, by, change.kind.value, change.reason.code, change.reason.message, change.reason.numbers,
               change.group_no)
        for change in outcome.changes
    ]  # fmt: skip
    known = {(result.gate_no, result.profile): result.verdict for result in before.gates}
    for result in after.gates:
        if known.get((result.gate_no, result.profile)) is not result.verdict:
            why = result.reason
            rows.append(_event(now_s, by, _GATE, why.code, why.message, why.numbers, None))
    if after.status in ENDED and before.status not in ENDED:
        sums = {state.value: sum(getattr(group, state.value) for group in counts.groups) for state in DeviceState}
        message = "How it stood with the devices when it ended."
        rows.append(_event(now_s, by, _COUNTS, f"rollout.{after.status}", message, sums, None))
    return rows


def _event(
    at_s: float, by: str, kind: str, code: str, message: str, numbers: dict[str, int], group_no: int | None
) -> EventRow:
    return EventRow(
        event_no=0, at_s=at_s, kind=kind, group_no=group_no, code=code, message=message, numbers=numbers, by=by
    )


def audited(event: EventRow) -> bool:
    """Whether the audit log has it too: all that people did, and what the hub did to devices."""
    return event.kind not in _QUIET


def action_of(event: EventRow) -> str:
    """How the audit log names it: `rollout.paused`, `rollout.group_started`."""
    return f"rollout.{event.kind.removeprefix('rollout_')}"
