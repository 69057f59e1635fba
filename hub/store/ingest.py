"""Rows of ingest: one read per table and one bulk write per table for a whole batch, never one per device.

The status rows of the devices in a batch are locked in the order of their ids (PostgreSQL; SQLite has one writer), so
hubs that share the queue apply one device's messages one after the other and never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hub.ingest.rows import DeviceChange, DeviceRow, ModelRow
from hub.ingest.sequence import Position
from hub.store.documents import heartbeat_columns, inventory_columns
from hub.store.federated_devices import set_samples
from hub.store.rollout_marks import add_arrivals, mark_moved
from hub.store.schema import (
    device_epochs,
    device_events,
    device_models,
    device_status,
    devices,
    federated_answers,
    install_reports,
)

__all__ = ["apply_changes", "lock_devices", "model_rows", "past_epochs"]

Row = Mapping[str, Any]


def lock_devices(connection: Connection, device_ids: Iterable[str], now: float) -> dict[str, DeviceRow]:
    """The locked status rows of those of `device_ids` that are active; a first contact gets its row here."""
    wanted = sorted(set(device_ids))
    found = _locked(connection, wanted)
    missing = [device_id for device_id in wanted if device_id not in found]
    if not missing:
        return found
    active = connection.scalars(
        select(devices.c.device_id).where(devices.c.device_id.in_(missing), devices.c.status == "active")
    ).all()
    if not active:
        return found
    fresh = [
        {"device_id": d, "last_seen_s": now, "epoch": "", "watermark": 0, "messages": 0, "dropped": 0, "malformed": 0}
        for d in sorted(active)
    ]
    _insert_new(connection, device_status, fresh)
    return _locked(connection, wanted)


def _locked(connection: Connection, device_ids: Sequence[str]) -> dict[str, DeviceRow]:
    status = device_status.c
    rows = connection.execute(
        select(
            status.device_id,
            status.epoch,
            status.watermark,
            status.last_seen_s,
            status.messages,
            status.dropped,
            status.malformed,
            devices.c.profile,
        )
        .join(devices, devices.c.device_id == status.device_id)
        .where(status.device_id.in_(device_ids), devices.c.status == "active")
        .order_by(status.device_id)
        .with_for_update(of=device_status)
    )
    return {
        row.device_id: DeviceRow(
            device_id=row.device_id,
            position=Position(row.epoch, row.watermark),
            last_seen_s=row.last_seen_s,
            messages=row.messages,
            dropped=row.dropped,
            malformed=row.malformed,
            profile=row.profile,
        )
        for row in rows
    }


def past_epochs(connection: Connection, device_ids: Sequence[str]) -> dict[str, set[str]]:
    """The epochs that each of the devices has left."""
    found: dict[str, set[str]] = {}
    if device_ids:
        past = device_epochs.c
        for row in connection.execute(select(past.device_id, past.epoch).where(past.device_id.in_(device_ids))):
            found.setdefault(row.device_id, set()).add(row.epoch)
    return found


def model_rows(connection: Connection, device_ids: Sequence[str]) -> dict[str, dict[str, ModelRow]]:
    """What each of the devices has last said about its models, by device and model."""
    found: dict[str, dict[str, ModelRow]] = {}
    if device_ids:
        query = select(device_models).where(device_models.c.device_id.in_(device_ids))
        for row in connection.execute(query).mappings():
            model = ModelRow(**{field: row[field] for field in ModelRow.__struct_fields__})
            found.setdefault(row["device_id"], {})[model.model] = model
    return found


def apply_changes(connection: Connection, changes: Sequence[DeviceChange], now: float) -> None:
    """Write all that a batch changes, one bulk statement per table."""
    _insert_new(
        connection,
        device_epochs,
        [
            {"device_id": c.row.device_id, "epoch": p.epoch, "watermark": p.watermark, "retired_s": now}
            for c in changes
            for p in c.retired
        ],
    )
    _update_status(connection, changes)
    _update_documents(connection, changes, now)
    _upsert_models(connection, [_of(c, model) for c in changes for model in c.models])
    _insert_new(connection, install_reports, [_of(c, report) for c in changes for report in c.reports])
    _insert_new(connection, device_events, [_of(c, event) for c in changes for event in c.events])
    _insert_new(connection, federated_answers, [_of(c, answer) for c in changes for answer in c.training])
    set_samples(connection, {c.row.device_id: c.samples for c in changes if c.samples is not None}, now)
    mark_moved(connection, [(c.row.device_id, model) for c in changes for model in c.moved])
    add_arrivals(connection, [c.row.device_id for c in changes if c.inventory is not None])


def _of(change: DeviceChange, value: msgspec.Struct) -> dict[str, Any]:
    return {"device_id": change.row.device_id, **msgspec.structs.asdict(value)}


def _dialect_insert(connection: Connection, table: Table) -> Any:
    # The same two methods (`on_conflict_do_nothing`, `on_conflict_do_update`), but no common type in SQLAlchemy.
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _insert_new(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(_dialect_insert(connection, table).on_conflict_do_nothing(), rows)


def _upsert_models(connection: Connection, rows: Sequence[Row]) -> None:
    if not rows:
        return
    statement = _dialect_insert(connection, device_models)
    keys = ("device_id", "model")
    values = {c.name: statement.excluded[c.name] for c in device_models.c if c.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), rows)


def _update_status(connection: Connection, changes: Sequence[DeviceChange]) -> None:
    rows = [
        {
            "of_device": c.row.device_id,
            "last_seen_s": c.row.last_seen_s,
            "epoch": c.row.position.epoch,
            "watermark": c.row.position.watermark,
            "messages": c.row.messages,
            "dropped": c.row.dropped,
            "malformed": c.row.malformed,
        }
        for c in changes
    ]
    if rows:
        connection.execute(_by_device(device_status, rows[0]), rows)


def _update_documents(connection: Connection, changes: Sequence[DeviceChange], now: float) -> None:
    """The last heartbeat and the last inventory, only of those devices that sent one."""
    heartbeats = [
        {
            "of_device": c.row.device_id,
            "heartbeat": c.heartbeat,
            "heartbeat_s": now,
            **heartbeat_columns(c.heartbeat),
        }
        for c in changes
        if c.heartbeat is not None
    ]
    inventories = [
        {
            "of_device": c.row.device_id,
            "inventory": c.inventory,
            "inventory_s": now,
            **inventory_columns(c.inventory),
        }
        for c in changes
        if c.inventory is not None
    ]
    if heartbeats:
        connection.execute(_by_device(device_status, heartbeats[0]), heartbeats)
    if inventories:
        connection.execute(_by_device(devices, inventories[0]), inventories)


def _by_device(table: Table, row: Row) -> Any:
    values: dict[str, Any] = {name: bindparam(name) for name in row if name != "of_device"}
    return update(table).where(table.c.device_id == bindparam("of_device")).values(values)
