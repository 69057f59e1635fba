"""What others leave for the rollouts: marks on rows, written in the transaction of what they tell of.

Nothing is decided here, so that whoever marks pays next to nothing: one statement a batch of messages, and only for
devices whose installation moved. A mark is set again whatever it was: one that another transaction is about to clear
must wait for it, or it would be lost.

Whoever assigns a device takes it from the rollouts that had it: from all of them if a person assigns, from those that
it outranks if a rollout does. A rollout that has ended keeps its record as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, insert, select, update

from hub.rollouts.state import ENDED, Status
from hub.store.device_filter import Condition
from hub.store.schema import devices, rollout_arrivals, rollout_devices, rollouts

__all__ = ["ACTIVE_STATUSES", "add_arrivals", "mark_moved", "supersede"]

ACTIVE_STATUSES = tuple(sorted(status.value for status in Status if status not in ENDED))
"""Of rollouts that have not ended."""
_DONE = ("rolled_back", "withdrawn", "superseded", "skipped")

_MARK = (
    update(rollout_devices)
    .where(
        rollout_devices.c.device_id == bindparam("of_device"),
        rollout_devices.c.model == bindparam("of_model"),
        rollout_devices.c.current == 1,
    )
    .values(dirty=1)
)


def mark_moved(connection: Connection, moved: Sequence[tuple[str, str]]) -> None:
    """These (device, model) have said something that their rollouts must know; given in the order of the ids."""
    if moved:
        connection.execute(_MARK, [{"of_device": device_id, "of_model": model} for device_id, model in moved])


def add_arrivals(connection: Connection, device_ids: Sequence[str]) -> None:
    """These devices came, went or changed: rollouts must see whether they belong to them."""
    if device_ids:
        connection.execute(insert(rollout_arrivals), [{"device_id": device_id} for device_id in device_ids])


def supersede(
    connection: Connection, selection: Condition, model: str, deployment_id: str, now_s: float
) -> None:
    """`deployment_id` is about to assign `model` to the devices of `selection`: those who had them let go."""
    others = connection.execute(
        select(rollouts.c.rollout_no, rollouts.c.rollout_id, rollouts.c.status, rollouts.c.priority).where(
            rollouts.c.model == model
        )
    ).all()
    taker = next((row for row in others if row.rollout_id == deployment_id), None)
    losers = [
        row.rollout_no
        for row in others
        if row.status in ACTIVE_STATUSES
        and row is not taker
        and (taker is None or (row.priority, row.rollout_no) < (taker.priority, taker.rollout_no))
    ]
    if len(others) > (taker is not None):
        own = rollout_devices.c.rollout_no != (taker.rollout_no if taker is not None else 0)
        _let_go(connection, selection, and_(own, rollout_devices.c.current == 1), model, losers, now_s)
    if losers:
        waiting = and_(rollout_devices.c.rollout_no.in_(losers), rollout_devices.c.state.not_in(_DONE))
        _let_go(connection, selection, waiting, model, losers, now_s)
        connection.execute(
            update(rollouts).where(rollouts.c.rollout_no.in_(losers)).values(changes=rollouts.c.changes + 1)
        )


def _let_go(
    connection: Connection,
    selection: Condition,
    among: ColumnElement[bool],
    model: str,
    losers: Sequence[int],
    now_s: float,
) -> None:
    rows = rollout_devices.c
    gone = and_(rows.rollout_no.in_(losers), rows.state.not_in(_DONE))
    elapsed = select(rollouts.c.elapsed_e).where(rollouts.c.rollout_no == rows.rollout_no).scalar_subquery()
    values: dict[str, Any] = {
        "state": case((gone, "superseded"), else_=rows.state),
        "changed_e": case((gone, elapsed), else_=rows.changed_e),
        "changed_s": case((gone, now_s), else_=rows.changed_s),
        "current": 0,
        "dirty": 0,
        "vanished": 0,
    }
    chosen = rows.device_id.in_(select(devices.c.device_id).where(selection))
    connection.execute(update(rollout_devices).where(rows.model == model, among, chosen).values(values))
