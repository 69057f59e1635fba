"""Readings of devices' machines: as they are now, and as they were at some moments, a row for all devices each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Float, cast, delete, func, insert, select

from hub.store.schema import device_history, device_status, devices

__all__ = ["SystemTable", "add_moment", "moments", "newest_moment_s", "readings_of", "system_table"]

_AT_THE_ROOT = frozenset({"disk_free_bytes"})  # of the heartbeat, beside `system`


class SystemTable(NamedTuple):
    """ids: ascending by code point. values: [devices, readings], NaN where a device did not tell."""

    ids: list[str]
    profiles: list[str]
    values: NDArray[np.float64]


def system_table(connection: Connection, readings: Sequence[str], limit: int) -> SystemTable:
    """The newest readings of active devices that have told any of their machine; taken apart by the database."""
    told = device_status.c.heartbeat
    columns = [
        cast((told[name] if name in _AT_THE_ROOT else told["system", name]).as_string(), Float) for name in readings
    ]
    query = (
        select(devices.c.device_id, devices.c.profile, *columns)
        .join(device_status, device_status.c.device_id == devices.c.device_id)
        .where(
            devices.c.status == "active",
            device_status.c.heartbeat_s.is_not(None),
            told["system"].as_string().is_not(None),
        )
        .limit(limit)
    )
    rows = np.array([tuple(row) for row in connection.execute(query)], object).reshape(-1, 2 + len(readings))
    order = np.argsort(rows[:, 0].astype(str), kind="stable")
    rows = rows[order]
    return SystemTable(rows[:, 0].tolist(), rows[:, 1].tolist(), rows[:, 2:].astype(np.float64))


def readings_of(connection: Connection, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """What these devices told of their machines, as they told it."""
    query = select(device_status.c.device_id, device_status.c.heartbeat).where(device_status.c.device_id.in_(ids))
    found = {}
    for device_id, heartbeat in connection.execute(query):
        system = (heartbeat or {}).get("system") or {}
        found[device_id] = {**system, "disk_free_bytes": (heartbeat or {}).get("disk_free_bytes")}
    return found


def newest_moment_s(connection: Connection) -> float | None:
    """When a moment was kept last."""
    return connection.execute(select(func.max(device_history.c.at_s))).scalar()


def add_moment(connection: Connection, at_s: float, names: bytes, values: bytes, keep: int) -> None:
    """Keep a moment, and of all only the newest `keep`."""
    h = device_history.c
    connection.execute(delete(device_history).where(h.at_s >= at_s))  # the clock went back: those never were
    connection.execute(insert(device_history).values(at_s=at_s, names=names, readings=values))
    kept = select(h.at_s).order_by(h.at_s.desc()).limit(keep)
    connection.execute(delete(device_history).where(h.at_s.not_in(kept.scalar_subquery())))


def moments(connection: Connection, limit: int) -> list[tuple[bytes, bytes]]:
    """(names, readings) of the newest moments."""
    h = device_history.c
    query = select(h.names, h.readings).order_by(h.at_s.desc()).limit(limit)
    return [(bytes(row.names), bytes(row.readings)) for row in connection.execute(query)]
