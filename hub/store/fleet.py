"""What the hub knows about its devices, for people to read: pages of summaries, and one device in full.

A page costs three queries whatever its size (devices with their status, their tags, their models).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from hub.store.page import PageRequest, after
from hub.store.schema import device_events, device_models, device_status, device_tags, devices, install_reports

__all__ = [
    "DeviceModel",
    "DeviceSummary",
    "EventRow",
    "ReportRow",
    "StatusRow",
    "find_status",
    "find_summary",
    "list_events",
    "list_reports",
    "list_summaries",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """One model as the device last reported it. Latencies in microseconds over its last heartbeat interval."""

    model: str
    version: int | None
    bundle_sha256: str | None
    previous_version: int | None
    state: str
    target_version: int | None
    counter: int
    reason_code: str
    reason: str
    requests: int
    errors: int
    latency_p50_us: int
    latency_p99_us: int
    updated_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSummary:
    """A device in a list. `last_seen_s` None: it has not sent anything yet."""

    device_id: str
    status: str
    profile: str
    hardware_id: str
    enrolled_s: float
    revoked_s: float | None
    last_seen_s: float | None
    tags: dict[str, str]
    models: list[DeviceModel]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRow:
    """The hot row of a device: what arrives with its messages."""

    last_seen_s: float
    epoch: str
    watermark: int
    heartbeat: dict[str, Any] | None
    heartbeat_s: float | None
    messages: int
    dropped: int
    malformed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One transition of the device's install machine."""

    epoch: str
    seq: int
    model: str
    version: int
    counter: int
    previous: str
    state: str
    event: str
    reason_code: str
    reason: str
    device_s: float
    received_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event that a device reported."""

    epoch: str
    seq: int
    code: str
    severity: str
    message: str
    model: str | None
    count: int
    device_s: float
    received_s: float


_MODEL = [device_models.c[field.name] for field in fields(DeviceModel)]
_STATUS = [device_status.c[field.name] for field in fields(StatusRow)]
_REPORT = [install_reports.c[field.name] for field in fields(ReportRow)]
_EVENT = [device_events.c[field.name] for field in fields(EventRow)]
_SUMMARY = [
    devices.c.device_id,
    devices.c.status,
    devices.c.profile,
    devices.c.hardware_id,
    devices.c.enrolled_s,
    devices.c.revoked_s,
    device_status.c.last_seen_s,
]
_BASE = select(*_SUMMARY).join_from(
    devices, device_status, device_status.c.device_id == devices.c.device_id, isouter=True
)


def _with_parts(connection: Connection, rows: Sequence[Row[Any]]) -> list[DeviceSummary]:
    ids = [row.device_id for row in rows]
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    models: dict[str, list[DeviceModel]] = defaultdict(list)
    wanted_tags = select(device_tags).where(device_tags.c.device_id.in_(ids)).order_by(device_tags.c.key)
    for tag in connection.execute(wanted_tags):
        tags[tag.device_id][tag.key] = tag.value
    wanted_models = select(device_models.c.device_id, *_MODEL).where(device_models.c.device_id.in_(ids))
    for row in connection.execute(wanted_models.order_by(device_models.c.model)):
        values = dict(row._mapping)
        models[values.pop("device_id")].append(DeviceModel(**values))
    return [DeviceSummary(**row._mapping, tags=tags[row.device_id], models=models[row.device_id]) for row in rows]


def list_summaries(
    connection: Connection, condition: ColumnElement[bool] | None, page: PageRequest
) -> list[DeviceSummary]:
    """Devices that match `condition` (over the table `devices`), by id."""
    query = _BASE.where(*after([devices.c.device_id], page))
    if condition is not None:
        query = query.where(condition)
    rows = connection.execute(query.order_by(devices.c.device_id).limit(page.fetch)).all()
    return _with_parts(connection, rows)


def find_summary(connection: Connection, device_id: str) -> DeviceSummary | None:
    """One device."""
    rows = connection.execute(_BASE.where(devices.c.device_id == device_id)).all()
    return _with_parts(connection, rows)[0] if rows else None


def find_status(connection: Connection, device_id: str) -> StatusRow | None:
    """The hot row; None: nothing has arrived yet."""
    row = connection.execute(select(*_STATUS).where(device_status.c.device_id == device_id)).one_or_none()
    return None if row is None else StatusRow(**row._mapping)


def list_reports(connection: Connection, device_id: str, page: PageRequest) -> list[ReportRow]:
    """Install reports, newest first; the key is (received_s, epoch, seq)."""
    order = (install_reports.c.received_s, install_reports.c.epoch, install_reports.c.seq)
    query = select(*_REPORT).where(install_reports.c.device_id == device_id, *after(order, page, descending=True))
    rows = connection.execute(query.order_by(*(column.desc() for column in order)).limit(page.fetch))
    return [ReportRow(**row._mapping) for row in rows]


def list_events(connection: Connection, device_id: str, page: PageRequest) -> list[EventRow]:
    """Events, newest first; the key is (received_s, epoch, seq)."""
    order = (device_events.c.received_s, device_events.c.epoch, device_events.c.seq)
    query = select(*_EVENT).where(device_events.c.device_id == device_id, *after(order, page, descending=True))
    rows = connection.execute(query.order_by(*(column.desc() for column in order)).limit(page.fetch))
    return [EventRow(**row._mapping) for row in rows]
