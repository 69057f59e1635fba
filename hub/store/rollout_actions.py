"""What a tick wants done, carried out set-based: pick rows, assign their devices, settle the rows.

Rules: picked rows carry a mark (`dirty` = 3) that lives only inside the transaction, so that every statement means the
same devices. Devices are locked before rows of theirs that the ingest may want to mark. A device's previous version is
what served when it was first assigned; what it had been assigned before stands in for one that has never spoken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from hub.rollouts.plan import Plan
from hub.store import assignments as store
from hub.store.device_filter import Condition
from hub.store.repeated import Repeated
from hub.store.rollout_counts import due, held
from hub.store.rollouts import RolloutRow
from hub.store.schema import assignments, device_models, devices, rollout_devices, versions
from hub.store.schema.rollouts import IS_MARKED, IS_WAITING
from shared.errors import SkerryError

__all__ = ["Giver", "Moment", "assign_waiting", "previous_versions", "retry_failed", "return_some", "switch_held"]

_ROW = rollout_devices.c
_PICKED = 3
Order = tuple[ColumnElement[Any], ...]
_ORDER: Order = (_ROW.place, _ROW.device_id)
UNDER_WAY = ("assigned", "downloading", "staged", "installing")
EXPOSED = (*UNDER_WAY, "succeeded", "failed", "reverted")

_NO: ColumnElement[int] = bindparam("of_rollout", type_=Integer)
_MOST: ColumnElement[int] = bindparam("most", type_=Integer)
_PLAINLY_WAITING = and_(
    _ROW.group_no == bindparam("of_group", type_=Integer),
    IS_WAITING,
    _ROW.timezone == literal_column("''"),  # so that the index gives them in order
)

Giver = Callable[[Connection, Condition, int, str], int]
"""Assigns a version of the rollout's model, with a mode, to the devices of a condition; raises what forbids it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now: engine time of the rollout, and the wall clock."""

    elapsed_e: int
    now_s: float


# --- picking ----------------------------------------------------------------------------------------------------------
def _mine(row: RolloutRow) -> ColumnElement[bool]:
    return and_(_ROW.rollout_no == row.rollout_no, IS_MARKED, _ROW.dirty == _PICKED)


def _picked(row: RolloutRow) -> Condition:
    """The picked devices that may still be given anything."""
    ids = select(_ROW.device_id).where(_mine(row)).correlate(None)
    return and_(devices.c.device_id.in_(ids), devices.c.status == "active")


def _chosen(among: ColumnElement[bool], order: Order) -> Select[Any]:
    chosen = select(_ROW.device_id).where(_ROW.rollout_no == _NO, among).order_by(*order).limit(_MOST)
    return select(chosen.subquery().c.device_id)


def _picking(among: ColumnElement[bool], order: Order) -> Update:
    own = device_models.alias("own")
    had = assignments.alias("had")
    served = select(own.c.version).where(own.c.device_id == _ROW.device_id, own.c.model == _ROW.model)
    assigned = select(had.c.version).where(had.c.device_id == _ROW.device_id, had.c.model == _ROW.model)
    before = func.coalesce(served.scalar_subquery(), assigned.scalar_subquery())
    return (
        update(rollout_devices)
        .where(_ROW.rollout_no == _NO, _ROW.device_id.in_(_chosen(among, order)))
        .values(
            dirty=literal_column(str(_PICKED)),
            previous_version=case((_ROW.attempts == literal_column("0"), before), else_=_ROW.previous_version),
        )
    )


def _pick(connection: Connection, row: RolloutRow, among: ColumnElement[bool], order: Order, limit: int) -> int:
    which = {"of_rollout": row.rollout_no, "most": limit}
    store.lock_devices(connection, devices.c.device_id.in_(_chosen(among, order)), which)
    return connection.execute(_picking(among, order), which).rowcount


def _pick_waiting(connection: Connection, row: RolloutRow, group_no: int, limit: int) -> int:
    """As `_pick`, of the devices of a group that wait for nothing else: what most ticks do."""
    which = {"of_rollout": row.rollout_no, "of_group": group_no, "most": limit}
    store.lock_devices(connection, devices.c.device_id.in_(_chosen(_PLAINLY_WAITING, _ORDER)), which)
    return _PICK_WAITING.run_one(connection, which)


def _settle(connection: Connection, row: RolloutRow, at: Moment, **values: Any) -> None:
    connection.execute(
        update(rollout_devices)
        .where(_mine(row))
        .values(changed_e=at.elapsed_e, changed_s=at.now_s, dirty=0, vanished=0, **values)
    )


def _drop_inactive(connection: Connection, row: RolloutRow, at: Moment) -> int:
    """Picked devices that are revoked by now are skipped."""
    return _DROP.run_one(connection, _moment(row, at))


def _moment(row: RolloutRow, at: Moment) -> dict[str, Any]:
    return {"of_rollout": row.rollout_no, "at_e": at.elapsed_e, "at_s": at.now_s}


def _dropping(_: Any) -> Update:
    revoked = exists().where(devices.c.device_id == _ROW.device_id, devices.c.status != "active")
    return (
        update(rollout_devices)
        .where(_ROW.rollout_no == _NO, IS_MARKED, _ROW.dirty == literal_column(str(_PICKED)), revoked)
        .values(
            state="skipped",
            reason_code="device.revoked",
            current=0,
            dirty=0,
            changed_e=bindparam("at_e", type_=BigInteger),
            changed_s=bindparam("at_s", type_=Float),
        )
    )


# --- giving -----------------------------------------------------------------------------------------------------------
def _serves(version: ColumnElement[int]) -> ColumnElement[bool]:
    """The device serves these very bytes, and no work goes on."""
    released = select(versions.c.bundle_sha256).where(
        versions.c.model == device_models.c.model, versions.c.version == version
    )
    return exists().where(
        device_models.c.device_id == _ROW.device_id,
        device_models.c.model == _ROW.model,
        device_models.c.version == version,
        device_models.c.bundle_sha256 == released.correlate(device_models).scalar_subquery(),
        or_(device_models.c.state == "committed", device_models.c.state == "idle"),
    )


def _counter() -> ColumnElement[int]:
    owner = devices.c.device_id == _ROW.device_id
    return select(devices.c.assignment_counter).where(owner).scalar_subquery()


def _given(*, live: bool) -> Update:
    version = bindparam("to_version", type_=Integer)
    state: Any = case((_serves(version), "succeeded"), else_="assigned") if live else "assigned"
    return (
        update(rollout_devices)
        .where(_ROW.rollout_no == _NO, IS_MARKED, _ROW.dirty == literal_column(str(_PICKED)))
        .values(
            state=state,
            counter=_counter(),
            mode=bindparam("in_mode", type_=String),
            target_version=version,
            attempts=_ROW.attempts + bindparam("attempt", type_=Integer),
            reason_code="",
            current=1,
            dirty=0,
            vanished=0,
            changed_e=bindparam("at_e", type_=BigInteger),
            changed_s=bindparam("at_s", type_=Float),
        )
    )


def _give(
    connection: Connection, row: RolloutRow, at: Moment, give: Giver, mode: str, picked: int, attempt: int
) -> int:
    """Give the version to what was picked."""
    if not picked:
        return 0
    _drop_inactive(connection, row, at)
    version = row.plan.version
    done = give(connection, _picked(row), version, mode)
    said = {**_moment(row, at), "to_version": version, "in_mode": mode, "attempt": attempt}
    (_GIVEN_LIVE if mode == "live" else _GIVEN).run_one(connection, said)
    return done


def assign_waiting(
    connection: Connection, row: RolloutRow, at: Moment, give: Giver, *,
    group_no: int, limit: int, mode: str, zones: tuple[str, ...], outranking: list[int],
) -> int:  # fmt: skip
    """Give the version to at most `limit` devices of a group that wait, in their order; returns how many."""
    if not (zones or outranking or _is_zoned(row.plan)):
        return _give(connection, row, at, give, mode, _pick_waiting(connection, row, group_no, limit), 1)
    among = and_(_ROW.group_no == group_no, IS_WAITING)
    if zones:
        among = and_(among, _ROW.timezone.in_(zones))
    elif not _is_zoned(row.plan):
        among = and_(among, _ROW.timezone == "")  # so that the index gives them in order
    if outranking:
        among = and_(among, ~held(outranking))
    return _give(connection, row, at, give, mode, _pick(connection, row, among, _ORDER, limit), 1)


def _is_zoned(plan: Plan) -> bool:
    return plan.window is not None and plan.window.timezone == "device"


def switch_held(connection: Connection, row: RolloutRow, at: Moment, give: Giver, *, group_no: int, limit: int) -> int:
    """Let at most `limit` devices of a group activate what they hold; returns how many."""
    among = and_(_ROW.group_no == group_no, _ROW.state == "staged", _ROW.mode == "hold")
    return _give(connection, row, at, give, "live", _pick(connection, row, among, _ORDER, limit), 0)


def retry_failed(
    connection: Connection, row: RolloutRow, at: Moment, give: Giver, *, group_no: int, limit: int, mode: str
) -> int:
    """Give it once more to at most `limit` failed devices of a group whose back-off is over; returns how many."""
    among = and_(
        _ROW.group_no == group_no,
        _ROW.state == "failed",
        _ROW.attempts < row.plan.retry.attempts,
        due(row.plan, at.elapsed_e),
    )
    picked = _pick(connection, row, among, (_ROW.changed_e, _ROW.device_id), limit)
    return _give(connection, row, at, give, mode, picked, 1)


# --- taking back ------------------------------------------------------------------------------------------------------
def previous_versions(
    connection: Connection, row: RolloutRow, group_no: int, states: tuple[str, ...]
) -> list[int | None]:
    """The versions that devices of a group in these states would go back to; None: some have none."""
    query = (
        select(_ROW.previous_version)
        .where(_ROW.rollout_no == row.rollout_no, _ROW.group_no == group_no, _ROW.state.in_(states))
        .distinct()
        .order_by(_ROW.previous_version)
    )
    return list(connection.execute(query).scalars())


def return_some(
    connection: Connection, row: RolloutRow, at: Moment, give: Giver, *,
    group_no: int, states: tuple[str, ...], version: int | None, limit: int, confirm: bool,
) -> int:  # fmt: skip
    """Send at most `limit` devices back to their previous `version`; None: take the assignment back. How many.

    confirm: they are `rolling_back` until they say so, else `withdrawn` at once. A version that cannot be assigned any
    more leaves the device with what it has, `withdrawn` with the reason.
    """
    same = _ROW.previous_version.is_(None) if version is None else _ROW.previous_version == version
    among = and_(_ROW.group_no == group_no, _ROW.state.in_(states), same)
    picked = _pick(connection, row, among, (_ROW.device_id,), limit)
    if not picked:
        return 0
    gone = _drop_inactive(connection, row, at)
    if picked == gone:
        return picked
    reason = ""
    if version is not None:
        try:
            with connection.begin_nested():
                give(connection, _picked(row), version, "live")
        except SkerryError as error:
            version, reason = None, error.code
    if version is None:
        _take_back(connection, row)
        _settle(connection, row, at, state="withdrawn", reason_code=reason)
    elif not confirm:
        _settle(connection, row, at, state="withdrawn", target_version=version, counter=_counter(), mode="live")
    else:
        returned = case((_returned(version), "rolled_back"), else_="rolling_back")
        _settle(connection, row, at, state=returned, target_version=version, counter=_counter(), mode="live")
    return picked


def _returned(version: int) -> ColumnElement[bool]:
    """The device went back by itself already."""
    back = exists().where(
        device_models.c.device_id == _ROW.device_id,
        device_models.c.model == _ROW.model,
        device_models.c.version == version,
    )
    return and_(_ROW.state.in_(("failed", "reverted")), back)


def _take_back(connection: Connection, row: RolloutRow) -> None:
    """The picked devices' assignments of this rollout end; what serves goes on serving."""
    mine = and_(
        assignments.c.deployment_id == row.rollout_id,
        assignments.c.model == row.plan.model,
        assignments.c.device_id.in_(select(_ROW.device_id).where(_mine(row))),
    )
    owners = devices.c.device_id.in_(select(assignments.c.device_id).where(mine))
    connection.execute(update(devices).where(owners).values(desired_revision=devices.c.desired_revision + 1))
    connection.execute(delete(assignments).where(mine))


# What every tick repeats.
_PICK_WAITING = Repeated(lambda _: _picking(_PLAINLY_WAITING, _ORDER))
_DROP = Repeated(_dropping)
_GIVEN_LIVE = Repeated(lambda _: _given(live=True))
_GIVEN = Repeated(lambda _: _given(live=False))
