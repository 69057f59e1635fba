"""Truths of single devices until their period is judged, and what the detectors know of each device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.schema import device_errors, device_outcomes, devices

__all__ = ["outcomes_of_period", "prune_errors", "put_errors", "put_outcomes", "states_of"]

_CHUNK = 500


def _insert(connection: Connection, table: Any) -> Any:
    # The same methods, but no common type in SQLAlchemy.
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def put_outcomes(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the outcomes of windows that were counted; a window once."""
    if rows:
        connection.execute(_insert(connection, device_outcomes).on_conflict_do_nothing(), rows)


def outcomes_of_period(connection: Connection, model: str, version: int, period_s: int) -> list[Any]:
    """(device_id, profile, count, outcomes) in the order in which each device told them."""
    o = device_outcomes.c
    query = (
        select(o.device_id, devices.c.profile, o.count, o.outcomes)
        .join(devices, devices.c.device_id == o.device_id)
        .where(o.model == model, o.version == version, o.period_s == period_s)
        .order_by(o.device_id, o.received_s, o.window_id)
    )
    return list(connection.execute(query))


def states_of(connection: Connection, model: str, version: int, ids: Sequence[str]) -> dict[str, bytes]:
    """What is known of these devices and this version."""
    e = device_errors.c
    found: dict[str, bytes] = {}
    for start in range(0, len(ids), _CHUNK):
        query = select(e.device_id, e.state).where(
            e.model == model, e.version == version, e.device_id.in_(ids[start : start + _CHUNK])
        )
        found |= {row.device_id: bytes(row.state) for row in connection.execute(query)}
    return found


def put_errors(
    connection: Connection, model: str, version: int, period_s: int, states: Mapping[str, bytes], now: float
) -> None:
    """Remember what is known now; the outcomes of the period that it came from are used up."""
    o = device_outcomes.c
    connection.execute(delete(device_outcomes).where(o.model == model, o.version == version, o.period_s == period_s))
    if not states:
        return
    statement = _insert(connection, device_errors)
    fresh = {name: statement.excluded[name] for name in ("version", "updated_s", "state")}
    rows = [
        {"device_id": d, "model": model, "version": version, "updated_s": now, "state": state}
        for d, state in sorted(states.items())
    ]
    connection.execute(statement.on_conflict_do_update(index_elements=["device_id", "model"], set_=fresh), rows)


def prune_errors(connection: Connection, before_s: float) -> int:
    """Remove outcomes that nobody judged, and devices that have told no truths, since then; how many rows."""
    gone = connection.execute(delete(device_outcomes).where(device_outcomes.c.received_s < before_s)).rowcount
    return gone + connection.execute(delete(device_errors).where(device_errors.c.updated_s < before_s)).rowcount
