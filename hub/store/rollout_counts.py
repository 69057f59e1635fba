"""What a tick knows about the devices of a rollout: read from tallies and indexes, never by walking over devices.

How many members are in which state the database keeps itself; what depends on time is asked only of those under way,
and what is rare (a hold, a time zone, a rollout that outranks this one) only where the plan has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, or_, select

from hub.rollouts.counts import DeviceState, GroupCounts
from hub.rollouts.plan import DEVICE_ZONE, Mode, Plan
from hub.rollouts.timing import START_GRACE_S, backoff_s, observe_s
from hub.store.rollouts import RolloutRow
from hub.store.schema import rollout_devices, rollout_tallies
from hub.store.schema.rollouts import IS_VANISHED, IS_WAITING

__all__ = ["ended_by_profile", "group_counts", "held"]

_ROW = rollout_devices.c
_IN_HAND = ("downloading", "installing", "staged")
_HOLDERS = ("assigned", "downloading", "staged", "installing", "succeeded", "failed", "reverted", "rolling_back")
Numbers = dict[int, dict[str, Any]]


def group_counts(
    connection: Connection, row: RolloutRow, elapsed_e: int, outranking: Sequence[int]
) -> tuple[GroupCounts, ...]:
    """One for each group of the plan, at engine time `elapsed_e`; `outranking`: rollouts that go before this one."""
    found: Numbers = defaultdict(dict)
    _by_state(connection, row, found)
    if any(_under_way(numbers) for numbers in found.values()):
        _by_time(connection, row, elapsed_e, found)
    _retries(connection, row, elapsed_e, found)
    if _has_holds(row.plan) and any(numbers.get("staged") for numbers in found.values()):
        _holding(connection, row, elapsed_e, found)
    _vanished(connection, row, found)
    if outranking:
        _held(connection, row, outranking, found)
    if row.plan.window is not None and row.plan.window.timezone == DEVICE_ZONE:
        _zones(connection, row, outranking, found)
    return tuple(GroupCounts(**found.get(group_no, {})) for group_no in range(len(row.plan.groups)))


def _under_way(numbers: dict[str, Any]) -> bool:
    return any(numbers.get(state) for state in ("assigned", *_IN_HAND))


def _has_holds(plan: Plan) -> bool:
    return plan.mode is not Mode.LIVE or any(group.prepare for group in plan.groups)


def _by_state(connection: Connection, row: RolloutRow, found: Numbers) -> None:
    tally = rollout_tallies.c
    query = select(tally.group_no, tally.state, tally.n).where(tally.rollout_no == row.rollout_no, tally.n > 0)
    for one in connection.execute(query):
        found[one.group_no][DeviceState(one.state).value] = one.n


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _by_time(connection: Connection, row: RolloutRow, elapsed_e: int, found: Numbers) -> None:
    """What has waited too long is few rows at one end of the index; the rest is asked only where the plan needs it."""
    plan = row.plan
    for moment, numbers in _patience(plan, elapsed_e).items():
        old = and_(_ROW.group_no.in_(numbers), _ROW.state.in_(("assigned", *_IN_HAND)), _ROW.changed_e < moment)
        for group_no, state, n in _grouped(connection, row, old):
            if state == "assigned":
                found[group_no]["unreached"] = n
        first = and_(old, _ROW.attempts <= 1)
        for group_no, state, n in _grouped(connection, row, first):
            if state != "assigned":
                found[group_no]["silent"] = found[group_no].get("silent", 0) + n
    if plan.retry.attempts > 1:
        again = and_(_ROW.state.in_(("assigned", *_IN_HAND)), _ROW.attempts > 1)
        for group_no, _, n in _grouped(connection, row, again):
            found[group_no]["retrying"] = found[group_no].get("retrying", 0) + n
    if plan.max_concurrent_downloads is not None:
        recent = and_(_ROW.state == "assigned", _ROW.changed_e > elapsed_e - START_GRACE_S)
        for group_no, _, n in _grouped(connection, row, recent):
            found[group_no]["starting"] = n


def _patience(plan: Plan, elapsed_e: int) -> dict[int, list[int]]:
    """The groups by the moment before which a device that has not moved since has waited too long."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(plan.groups):
        found[elapsed_e - observe_s(plan, group)].append(number)
    return found


def _grouped(connection: Connection, row: RolloutRow, among: ColumnElement[bool]) -> list[tuple[int, str, int]]:
    query = (
        select(_ROW.group_no, _ROW.state, func.count())
        .where(_ROW.rollout_no == row.rollout_no, among)
        .group_by(_ROW.group_no, _ROW.state)
    )
    return [(one[0], one[1], one[2]) for one in connection.execute(query)]


def _retries(connection: Connection, row: RolloutRow, elapsed_e: int, found: Numbers) -> None:
    retry = row.plan.retry
    if retry.attempts <= 1 or not any(numbers.get("failed") for numbers in found.values()):
        return
    query = (
        select(_ROW.group_no, func.count().label("n"), _count_if(due(row.plan, elapsed_e)).label("due"))
        .where(_ROW.rollout_no == row.rollout_no, _ROW.state == "failed", _ROW.attempts < retry.attempts)
        .group_by(_ROW.group_no)
    )
    for one in connection.execute(query):
        found[one.group_no] |= {"retry_left": one.n, "retry_due": one.due}


def due(plan: Plan, elapsed_e: int) -> ColumnElement[bool]:
    """The back-off of a failed device is over."""
    retry = plan.retry
    return or_(
        *(
            and_(_ROW.attempts == attempts, _ROW.changed_e <= elapsed_e - backoff_s(retry, attempts))
            for attempts in range(1, retry.attempts)
        )
    )


def _holding(connection: Connection, row: RolloutRow, elapsed_e: int, found: Numbers) -> None:
    plan = row.plan
    waits = {number: elapsed_e - observe_s(plan, group) for number, group in enumerate(plan.groups)}
    too_old = or_(*(and_(_ROW.group_no == number, _ROW.changed_e < moment) for number, moment in waits.items()))
    query = (
        select(
            _ROW.group_no, func.count().label("n"), _count_if(and_(too_old, _ROW.attempts <= 1)).label("silent")
        )
        .where(_ROW.rollout_no == row.rollout_no, _ROW.state == "staged", _ROW.mode == "hold")
        .group_by(_ROW.group_no)
    )
    for one in connection.execute(query):
        numbers = found[one.group_no]
        numbers["holding"] = one.n
        numbers["silent"] = numbers.get("silent", 0) - one.silent


def _vanished(connection: Connection, row: RolloutRow, found: Numbers) -> None:
    query = (
        select(_ROW.group_no, func.count().label("n"))
        .where(_ROW.rollout_no == row.rollout_no, IS_VANISHED, _ROW.state == "succeeded")
        .group_by(_ROW.group_no)
    )
    for one in connection.execute(query):
        found[one.group_no]["vanished"] = one.n


def held(outranking: Sequence[int]) -> ColumnElement[bool]:
    """One of these rollouts has the device."""
    other = rollout_devices.alias("other")
    return (
        select(other.c.device_id)
        .where(
            other.c.device_id == _ROW.device_id,
            other.c.model == _ROW.model,
            other.c.current == literal_column("1"),
            other.c.rollout_no.in_(list(outranking)),
            other.c.state.in_(_HOLDERS),
        )
        .correlate(rollout_devices)
        .exists()
    )


def _held(connection: Connection, row: RolloutRow, outranking: Sequence[int], found: Numbers) -> None:
    query = (
        select(_ROW.group_no, func.count().label("n"))
        .where(_ROW.rollout_no == row.rollout_no, IS_WAITING, held(outranking))
        .group_by(_ROW.group_no)
    )
    for one in connection.execute(query):
        found[one.group_no]["held"] = one.n


def _zones(connection: Connection, row: RolloutRow, outranking: Sequence[int], found: Numbers) -> None:
    query = (
        select(_ROW.group_no, _ROW.timezone, func.count().label("n"))
        .where(_ROW.rollout_no == row.rollout_no, IS_WAITING)
        .group_by(_ROW.group_no, _ROW.timezone)
    )
    if outranking:
        query = query.where(~held(outranking))
    for one in connection.execute(query):
        found[one.group_no].setdefault("waiting_by_zone", {})[one.timezone] = one.n


def ended_by_profile(connection: Connection, row: RolloutRow, since_e: int) -> dict[str, tuple[int, int]]:
    """By profile: devices on which the install succeeded, and all on which it ended, since `since_e`."""
    query = (
        select(_ROW.profile, _count_if(_ROW.state == "succeeded").label("good"), func.count().label("n"))
        .where(
            _ROW.rollout_no == row.rollout_no,
            _ROW.state.in_(("succeeded", "failed", "reverted")),
            _ROW.changed_e >= since_e,
        )
        .group_by(_ROW.profile)
    )
    return {one.profile: (one.good, one.n) for one in connection.execute(query)}
