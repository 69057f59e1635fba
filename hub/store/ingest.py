"""Rows of ingest: one read per table and one bulk write per table for a whole batch, never one per device.

The status rows of the devices in a batch are locked in the order of their ids (PostgreSQL; SQLite has one writer), so
hubs that share the queue apply one device's messages one after the other and never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Connection, bindparam, select

from hub.ingest.rows import DeviceChange, DeviceRow, ModelRow
from hub.ingest.sequence import Position
from hub.store.documents import heartbeat_columns, inventory_columns
from hub.store.federated_devices import set_samples
from hub.store.repeated import Row, by_device, new_ones, replaced
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

_STANDING = ("last_seen_s", "epoch", "watermark", "messages", "dropped", "malformed")
_DOCUMENT = ("heartbeat", "heartbeat_s", *heartbeat_columns({}))
_FIRST_STATUS = new_ones(device_status, ("device_id", *_STANDING))
_STATUS = by_device(device_status, _STANDING)
_STATUS_AND_HEARTBEAT = by_device(device_status, (*_STANDING, *_DOCUMENT))
_INVENTORIES = by_device(devices, ("inventory", "inventory_s", *inventory_columns({})))
_EPOCHS = new_ones(device_epochs)
_MODELS = replaced(device_models)
_REPORTS = new_ones(install_reports)
_EVENTS = new_ones(device_events)
_ANSWERS = new_ones(federated_answers)

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_LOCKED = (
    select(device_status.c.device_id, *(device_status.c[name] for name in _STANDING), devices.c.profile)
    .join(devices, devices.c.device_id == device_status.c.device_id)
    .where(device_status.c.device_id.in_(_IDS), devices.c.status == "active")
    .order_by(device_status.c.device_id)
    .with_for_update(of=device_status)
)
_ACTIVE = select(devices.c.device_id).where(devices.c.device_id.in_(_IDS), devices.c.status == "active")
_PAST = select(device_epochs.c.device_id, device_epochs.c.epoch).where(device_epochs.c.device_id.in_(_IDS))
_MODEL_FIELDS = ModelRow.__struct_fields__
_KNOWN = select(device_models.c.device_id, *(device_models.c[name] for name in _MODEL_FIELDS)).where(
    device_models.c.device_id.in_(_IDS)
)


def lock_devices(connection: Connection, device_ids: Iterable[str], now: float) -> dict[str, DeviceRow]:
    """The locked status rows of those of `device_ids` that are active; a first contact gets its row here."""
    wanted = sorted(set(device_ids))
    found = _locked(connection, wanted)
    missing = [device_id for device_id in wanted if device_id not in found]
    if not missing:
        return found
    active = connection.scalars(_ACTIVE, {"ids": missing}).all()
    if not active:
        return found
    fresh = [
        {"device_id": d, "last_seen_s": now, "epoch": "", "watermark": 0, "messages": 0, "dropped": 0, "malformed": 0}
        for d in sorted(active)
    ]
    _FIRST_STATUS.run(connection, fresh)
    return _locked(connection, wanted)


def _locked(connection: Connection, device_ids: Sequence[str]) -> dict[str, DeviceRow]:
    return {
        row[0]: DeviceRow(
            device_id=row[0],
            last_seen_s=row[1],
            position=Position(row[2], row[3]),
            messages=row[4],
            dropped=row[5],
            malformed=row[6],
            profile=row[7],
        )
        for row in connection.execute(_LOCKED, {"ids": device_ids}).all()
    }


def past_epochs(connection: Connection, device_ids: Sequence[str]) -> dict[str, set[str]]:
    """The epochs that each of the devices has left."""
    found: dict[str, set[str]] = {}
    if device_ids:
        for device_id, epoch in connection.execute(_PAST, {"ids": device_ids}).all():
            found.setdefault(device_id, set()).add(epoch)
    return found


def model_rows(connection: Connection, device_ids: Sequence[str]) -> dict[str, dict[str, ModelRow]]:
    """What each of the devices has last said about its models, by device and model."""
    found: dict[str, dict[str, ModelRow]] = {}
    if device_ids:
        for row in connection.execute(_KNOWN, {"ids": device_ids}).all():
            model = ModelRow(**dict(zip(_MODEL_FIELDS, row[1:], strict=True)))
            found.setdefault(row[0], {})[model.model] = model
    return found


def apply_changes(connection: Connection, changes: Sequence[DeviceChange], now: float) -> None:
    """Write all that a batch changes, one bulk statement per table."""
    _EPOCHS.run(
        connection,
        [
            {"device_id": c.row.device_id, "epoch": p.epoch, "watermark": p.watermark, "retired_s": now}
            for c in changes
            for p in c.retired
        ],
    )
    _update_status(connection, changes, now)
    inventories = [(c.row.device_id, c.inventory) for c in changes if c.inventory is not None]
    _INVENTORIES.run(
        connection,
        [{"of_device": d, "inventory": told, "inventory_s": now, **inventory_columns(told)} for d, told in inventories],
    )
    _MODELS.run(connection, [_of(c, model) for c in changes for model in c.models])
    _REPORTS.run(connection, [_of(c, report) for c in changes for report in c.reports])
    _EVENTS.run(connection, [_of(c, event) for c in changes for event in c.events])
    _ANSWERS.run(connection, [_of(c, answer) for c in changes for answer in c.training])
    set_samples(connection, {c.row.device_id: c.samples for c in changes if c.samples is not None}, now)
    mark_moved(connection, [(c.row.device_id, model) for c in changes for model in c.moved])
    add_arrivals(connection, [c.row.device_id for c in changes if c.inventory is not None])


def _of(change: DeviceChange, value: msgspec.Struct) -> dict[str, Any]:
    return {"device_id": change.row.device_id, **msgspec.structs.asdict(value)}


def _update_status(connection: Connection, changes: Sequence[DeviceChange], now: float) -> None:
    """The counters of all, and the last heartbeat of those that sent one: one row each, written once."""
    quiet: list[Row] = []
    spoken: list[Row] = []
    for change in changes:
        row = {
            "of_device": change.row.device_id,
            "last_seen_s": change.row.last_seen_s,
            "epoch": change.row.position.epoch,
            "watermark": change.row.position.watermark,
            "messages": change.row.messages,
            "dropped": change.row.dropped,
            "malformed": change.row.malformed,
        }
        if change.heartbeat is None:
            quiet.append(row)
        else:
            document = {"heartbeat": change.heartbeat, "heartbeat_s": now, **heartbeat_columns(change.heartbeat)}
            spoken.append({**row, **document})
    _STATUS.run(connection, quiet)
    _STATUS_AND_HEARTBEAT.run(connection, spoken)
