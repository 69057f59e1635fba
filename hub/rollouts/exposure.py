"""How many more devices may get the version at this tick: every limit at once, and the one that holds is named.

Rules: only groups that were started and have not failed; only while the rollout runs, its window is open and the clock
is steady; never more than the rate's credit, the free downloads and the size of a batch. Retries go before new devices,
and count against the same limits. Staging ahead (mode `hold`) does not wait for the window; the switch does.
"""

from __future__ import annotations

from collections.abc import Callable

from hub.rollouts.counts import GroupCounts
from hub.rollouts.draft import Draft
from hub.rollouts.plan import DEVICE_ZONE, Mode, Window
from hub.rollouts.rate import UNITS, credit_after, per_minute
from hub.rollouts.state import Action, Assign, GroupStatus, Reason, Retry, Switch
from shared.errors import InvalidInput
from shared.schedule import is_open, next_opening_s, parse_schedule, parse_zone

__all__ = ["accrue", "expose"]

_OPEN = frozenset({GroupStatus.PREPARING, GroupStatus.READY, GroupStatus.RUNNING, GroupStatus.BAKING})
_ADMITTING = _OPEN | {GroupStatus.AWAITING_APPROVAL, GroupStatus.PASSED}


def accrue(draft: Draft) -> None:
    """Let the rate's credit grow by the engine time that went by."""
    rate = draft.plan.rate
    if rate is None:
        return
    notified = sum(counts.exposed for counts in draft.counts.groups)
    succeeded = sum(counts.succeeded for counts in draft.counts.groups)
    credit = credit_after(draft.progress.credit, per_minute(rate, notified, succeeded), draft.step.elapsed_s)
    draft.set(credit=credit)


def expose(draft: Draft, batch: int) -> None:
    """Append what may be assigned now; when that is nothing though devices wait, say what holds it."""
    groups = [no for no in draft.started() if draft.progress.groups[no].status in _ADMITTING]
    wanted = sum(_wanted(draft, no) for no in groups)
    room, limit = _room(draft, batch)
    window = draft.plan.window
    waits = limit if wanted and room == 0 else None
    for group_no in groups:
        for make, count, mode in _wishes(draft, group_no):
            closed = _closed(window, draft.now_s) if window is not None and mode is not Mode.HOLD else None
            if closed is not None:
                waits = waits or (closed if count else None)
                continue
            given = min(count, room)
            if given > 0:
                draft.actions.append(make(given))
                room -= given
    _spend(draft, wanted, waits)


def _spend(draft: Draft, wanted: int, waits: Reason | None) -> None:
    limits = [action.limit for action in draft.actions if isinstance(action, Assign | Retry | Switch)]
    if draft.plan.rate is not None:
        draft.set(credit=draft.progress.credit - UNITS * sum(limits))
    draft.set(waits_for=None if limits or not wanted else waits)


# --- what could be done ---------------------------------------------------------------------------------------------
def _wanted(draft: Draft, group_no: int) -> int:
    return sum(count for _, count, _ in _wishes(draft, group_no))


def _wishes(draft: Draft, group_no: int) -> list[tuple[Callable[[int], Action], int, Mode]]:
    """(action for so many devices, how many there are, in which mode), the most urgent first."""
    counts, progress = draft.counts.groups[group_no], draft.progress.groups[group_no]
    holding = draft.plan.groups[group_no].prepare and not progress.switched
    mode = Mode.HOLD if holding else draft.plan.mode
    zones, assignable = _zones(draft, counts, mode)
    switch = 0 if holding else counts.holding
    return [
        (lambda n: Switch(group_no=group_no, limit=n), switch, Mode.LIVE),
        (lambda n: Retry(group_no=group_no, limit=n, mode=mode), counts.retry_due, mode),
        (lambda n: Assign(group_no=group_no, limit=n, mode=mode, zones=zones), assignable, mode),
    ]


def _zones(draft: Draft, counts: GroupCounts, mode: Mode) -> tuple[tuple[str, ...], int]:
    """The zones whose window is open and the devices there; no zones: the devices see to it themselves."""
    window = draft.plan.window
    if window is None or window.timezone != DEVICE_ZONE or mode is Mode.HOLD or not counts.waiting_by_zone:
        return (), counts.assignable
    zones = tuple(name for name in sorted(counts.waiting_by_zone) if _may_be_open(window, name, draft.now_s))
    return zones, min(counts.assignable, sum(counts.waiting_by_zone[name] for name in zones))


def _may_be_open(window: Window, zone: str, now_s: int) -> bool:
    try:
        return is_open(parse_schedule(window.cron, window.duration_s), parse_zone(zone), now_s)
    except InvalidInput:  # a zone that only the device knows: it keeps to the window by itself
        return True


# --- what holds -----------------------------------------------------------------------------------------------------
def _room(draft: Draft, batch: int) -> tuple[int, Reason]:
    """How many devices at the most, and the limit that says so."""
    room, why = batch, Reason(code="wait.batch", message="The next devices follow at once.")
    if draft.plan.rate is not None:
        credit = max(0, draft.progress.credit // UNITS)
        if credit < room:
            room, why = credit, Reason(code="wait.rate", message="The rate allows no more devices for the moment.")
    most = draft.plan.max_concurrent_downloads
    if most is not None:
        busy = sum(counts.starting + counts.downloading for counts in draft.counts.groups)
        if most - busy < room:
            room = max(0, most - busy)
            numbers = {"downloads": busy, "max_concurrent_downloads": most}
            why = Reason(code="wait.downloads", message=f"{busy} of {most} downloads are going on.", numbers=numbers)
    return room, why


def _closed(window: Window, now_s: int) -> Reason | None:
    """Why the window is closed; None: it is open, or each device keeps to it by itself. Unreadable is closed."""
    if window.timezone == DEVICE_ZONE:
        return None
    try:
        schedule, zone = parse_schedule(window.cron, window.duration_s), parse_zone(window.timezone)
        if is_open(schedule, zone, now_s):
            return None
        numbers = {"opens_s": next_opening_s(schedule, zone, now_s)}
    except InvalidInput as error:
        return Reason(code=error.code, message=error.message)
    shown = f"The maintenance window ({window.cron}, {window.timezone}) is closed."
    return Reason(code="wait.window", message=shown, numbers=numbers)
