"""What others leave for the rollouts: marks on rows, written in the transaction of what they tell of.

Nothing is decided here, so that whoever marks pays next to nothing: one statement a batch of messages, and only for
devices whose installation moved. A mark is set again whatever it was: one that another transaction is about to clear
must wait for it, or it would be lost.

Whoever assigns a device takes it from the rollouts that had it: from all of them if a person assigns, from those that
it outranks, and that which has the device now, if a rollout does.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, bindparam, literal_column, select, update

from hub.rollouts.state import ENDED, Status
from hub.store.device_filter import Condition
from hub.store.repeated import Repeated, new_ones
from hub.store.schema import devices, rollout_arrivals, rollout_devices, rollouts
from hub.store.schema.rollouts import IS_CURRENT

__all__ = ["ACTIVE_STATUSES", "add_arrivals", "mark_moved", "supersede"]

ACTIVE_STATUSES = tuple(sorted(status.value for status in Status if status not in ENDED))
"""Of rollouts that have not ended."""
_DONE = ("rolled_back", "withdrawn", "superseded", "skipped")

_MARK = Repeated(
    lambda _: update(rollout_devices)
    .where(
        rollout_devices.c.device_id == bindparam("of_device"),
        rollout_devices.c.model == bindparam("of_model"),
        IS_CURRENT,
    )
    .values(dirty=literal_column("1"))
)
_ARRIVALS = new_ones(rollout_arrivals, ["device_id", "claimed"])


def mark_moved(connection: Connection, moved: Sequence[tuple[str, str]]) -> None:
    """These (device, model) have said something that their rollouts must know; given in the order of the ids."""
    _MARK.run(connection, [{"of_device": device_id, "of_model": model} for device_id, model in moved])


def add_arrivals(connection: Connection, device_ids: Sequence[str]) -> None:
    """These devices came, went or changed: rollouts must see whether they belong to them."""
    _ARRIVALS.run(connection, [{"device_id": device_id, "claimed": 0} for device_id in device_ids])


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
    if len(others) == (taker is not None):
        return
    own = 0 if taker is None else taker.rollout_no
    held = and_(rollout_devices.c.rollout_no != own, IS_CURRENT)
    _let_go(connection, selection, held, model, now_s)
    losers = [
        row.rollout_no
        for row in others
        if row.status in ACTIVE_STATUSES
        and row is not taker
        and (taker is None or (row.priority, row.rollout_no) < (taker.priority, taker.rollout_no))
    ]
    if losers:
        _let_go(connection, selection, rollout_devices.c.rollout_no.in_(losers), model, now_s)
    taken_from = [row.rollout_no for row in others if row is not taker]
    connection.execute(
        update(rollouts).where(rollouts.c.rollout_no.in_(taken_from)).values(changes=rollouts.c.changes + 1)
    )


def _let_go(
    connection: Connection, selection: Condition, among: ColumnElement[bool], model: str, now_s: float
) -> None:
    rows = rollout_devices.c
    elapsed = select(rollouts.c.elapsed_e).where(rollouts.c.rollout_no == rows.rollout_no).scalar_subquery()
    chosen = rows.device_id.in_(select(devices.c.device_id).where(selection))
    connection.execute(
        update(rollout_devices)
        .where(rows.model == model, among, chosen, rows.state.not_in(_DONE))
        .values(
            state="superseded", changed_e=elapsed, changed_s=now_s, current=0, dirty=0, vanished=0
        )
    )
    connection.execute(
        update(rollout_devices).where(rows.model == model, among, chosen, IS_CURRENT).values(current=0)
    )
