"""What devices said, taken into the rollouts that they are in: exactly once, and only for devices that said something.

The ingest marks a row when the device's installation moved; here the marked rows are claimed, compared with what the
device says now, and cleared. The claim is a statement of its own: it waits for whoever is about to mark a row, and what
it then reads is all that this one has written; what is marked later stays marked. So nothing is lost and nothing is
counted twice, and a round costs what has changed, not what there is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select, update

from hub.store.rollouts import RolloutRow, bump
from hub.store.schema import device_models, device_status, rollout_devices, rollouts, versions
from hub.store.schema.rollouts import IS_MARKED, IS_VANISHED

__all__ = ["sweep_vanished", "take_reports"]

_ROW = rollout_devices.c
_SAID = device_models.c
_CLAIMED = 2
_SETTLED = ("committed", "idle")
_ENDED = (*_SETTLED, "rolled_back", "inconsistent")
_TRACKED = ("assigned", "downloading", "staged", "installing", "succeeded", "failed", "reverted")


def take_reports(connection: Connection, limit: int) -> int:
    """Bring up to `limit` marked rows up to date; returns how many were marked."""
    claimed = _claim(connection, limit)
    if not claimed:
        return 0
    mine = and_(IS_MARKED, _ROW.dirty == _CLAIMED)
    news = _news().where(mine).subquery()
    here = and_(_ROW.rollout_no == news.c.rollout_no, _ROW.device_id == news.c.device_id)
    elapsed = select(rollouts.c.elapsed_e).where(rollouts.c.rollout_no == _ROW.rollout_no).scalar_subquery()
    connection.execute(
        update(rollout_devices)
        .where(here, mine, news.c.state != _ROW.state)
        .values(
            state=news.c.state,
            reason_code=news.c.reason_code,
            changed_e=elapsed,
            changed_s=news.c.updated_s,
            vanished=0,
        )
    )
    bump(connection, rollouts.c.rollout_no.in_(select(_ROW.rollout_no).where(mine).distinct()))
    connection.execute(update(rollout_devices).where(mine).values(dirty=0))
    return claimed


def _claim(connection: Connection, limit: int) -> int:
    marked = select(_ROW.rollout_no, _ROW.device_id).where(IS_MARKED, _ROW.dirty == 1)
    marked = marked.order_by(_ROW.device_id).limit(limit)
    if connection.dialect.name == "postgresql":
        marked = marked.with_for_update()
    ids = marked.subquery()
    return connection.execute(
        update(rollout_devices)
        .where(_ROW.rollout_no == ids.c.rollout_no, _ROW.device_id == ids.c.device_id)
        .values(dirty=_CLAIMED)
    ).rowcount


def _news() -> Any:
    """(rollout, device, state, reason) of the rows as the devices say now."""
    return (
        select(
            _ROW.rollout_no,
            _ROW.device_id,
            _state().label("state"),
            case(
                (_ends_badly(), _SAID.reason_code),
                (_ROW.state == "rolling_back", _ROW.reason_code),  # that it is back does not undo why it went
                else_=literal(""),
            ).label("reason_code"),
            _SAID.updated_s,
        )
        .join_from(
            rollout_devices,
            device_models,
            and_(_SAID.device_id == _ROW.device_id, _SAID.model == _ROW.model),
        )
        .correlate(None)
    )


def _spoken() -> ColumnElement[bool]:
    """The device has spoken about this very assignment (or its renewal), and not only to say that it came too late."""
    return and_(_SAID.counter >= _ROW.counter, _SAID.reason_code != "assignment.expired")


def _serves() -> ColumnElement[bool]:
    digest = (
        select(versions.c.bundle_sha256)
        .where(versions.c.model == _ROW.model, versions.c.version == _ROW.target_version)
        .correlate(rollout_devices)
        .scalar_subquery()
    )
    return and_(_SAID.version == _ROW.target_version, _SAID.bundle_sha256 == digest)


def _ends_badly() -> ColumnElement[bool]:
    return and_(_spoken(), _SAID.state.in_(_ENDED), ~and_(_serves(), _SAID.state.in_(_SETTLED)))


def _state() -> ColumnElement[str]:
    served = _SAID.served_counter >= _ROW.counter
    held = case(
        (_ROW.mode == "shadow", literal("succeeded")),  # it runs beside what serves, which is what was wanted
        else_=literal("staged"),
    )
    assigned = case(
        (and_(_serves(), _SAID.state.in_(_SETTLED)), literal("succeeded")),
        (and_(_SAID.state.in_(_ENDED), or_(served, _ROW.state == "succeeded")), literal("reverted")),
        (_SAID.state.in_(_ENDED), literal("failed")),
        (_SAID.state == "held", held),
        (_SAID.state.in_(("assigned", "downloading")), literal("downloading")),
        else_=literal("installing"),
    )
    returned = and_(_SAID.version == _ROW.target_version, _SAID.state.in_(_ENDED))
    return case(
        (~_spoken(), _ROW.state),
        (_ROW.state.in_(_TRACKED), assigned),
        (and_(_ROW.state == "rolling_back", returned), literal("rolled_back")),
        else_=_ROW.state,
    )


# --- silence ----------------------------------------------------------------------------------------------------------
def sweep_vanished(connection: Connection, row: RolloutRow, group_no: int, heard_since_s: float) -> int:
    """Mark devices of a group that succeeded and were not heard of since `heard_since_s`; unmark those that were.

    Returns how many marks changed.
    """
    seen = (
        select(func.max(device_status.c.last_seen_s))
        .where(device_status.c.device_id == _ROW.device_id)
        .correlate(rollout_devices)
        .scalar_subquery()
    )
    mine = and_(_ROW.rollout_no == row.rollout_no, _ROW.group_no == group_no)
    back = connection.execute(
        update(rollout_devices).where(mine, IS_VANISHED, seen >= heard_since_s).values(vanished=0)
    ).rowcount
    gone = connection.execute(
        update(rollout_devices)
        .where(mine, _ROW.state == "succeeded", _ROW.vanished == 0, func.coalesce(seen, 0.0) < heard_since_s)
        .values(vanished=1)
    ).rowcount
    return back + gone
