"""The fleet in numbers, counted in SQL. Only active devices count, except where revoked ones are named."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from hub.store.deployments import FAILED_STATES
from hub.store.schema import device_models, device_status, devices

__all__ = [
    "DeviceCounts",
    "InstallFailure",
    "ProfileCounts",
    "VersionCounts",
    "device_counts",
    "install_failures",
    "profile_counts",
    "version_counts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCounts:
    """Devices by what is known of them. `total` = active + revoked; active = online + offline + never_seen."""

    total: int
    active: int
    revoked: int
    online: int
    offline: int
    never_seen: int
    unsent: int  # their desired state is still to be published


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileCounts:
    """Active devices of one firmware profile."""

    profile: str
    devices: int
    online: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounts:
    """Devices that serve a version (None: none yet), with their requests; the slowest p99 in microseconds."""

    model: str
    version: int | None
    devices: int
    installing: int
    requests: int
    errors: int
    latency_p99_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFailure:
    """Devices whose last install of a version failed for one reason; `device_id` and `reason` of one of them."""

    model: str
    version: int | None
    reason_code: str
    devices: int
    device_id: str
    reason: str


_WANTED = ("rollback.requested", "install.cancelled", "install.superseded")
"""Reasons for giving a version up that say nothing against it; so also ends one that waited or ran as a shadow."""


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def device_counts(connection: Connection, online_since_s: float) -> DeviceCounts:
    """Devices by status and by when they were last heard of."""
    active = devices.c.status == "active"
    seen = device_status.c.last_seen_s
    query = select(
        func.count().label("total"),
        _count_if(active).label("active"),
        _count_if(~active).label("revoked"),
        _count_if(and_(active, seen >= online_since_s)).label("online"),
        _count_if(and_(active, seen < online_since_s)).label("offline"),
        _count_if(and_(active, seen.is_(None))).label("never_seen"),
        _count_if(and_(active, devices.c.desired_revision > devices.c.published_revision)).label("unsent"),
    ).select_from(devices.outerjoin(device_status, device_status.c.device_id == devices.c.device_id))
    return DeviceCounts(**connection.execute(query).one()._mapping)


def profile_counts(connection: Connection, online_since_s: float) -> list[ProfileCounts]:
    """Active devices by firmware profile."""
    query = (
        select(
            devices.c.profile,
            func.count().label("devices"),
            _count_if(device_status.c.last_seen_s >= online_since_s).label("online"),
        )
        .select_from(devices.outerjoin(device_status, device_status.c.device_id == devices.c.device_id))
        .where(devices.c.status == "active")
        .group_by(devices.c.profile)
        .order_by(devices.c.profile)
    )
    return [ProfileCounts(**row._mapping) for row in connection.execute(query)]


def version_counts(connection: Connection) -> list[VersionCounts]:
    """Which versions serve where, by model and version, newest first."""
    busy = device_models.c.state.not_in((*FAILED_STATES, "committed", "idle"))
    query = (
        select(
            device_models.c.model,
            device_models.c.version,
            func.count().label("devices"),
            _count_if(busy).label("installing"),
            func.coalesce(func.sum(device_models.c.requests), 0).label("requests"),
            func.coalesce(func.sum(device_models.c.errors), 0).label("errors"),
            func.coalesce(func.max(device_models.c.latency_p99_us), 0).label("latency_p99_us"),
        )
        .join(devices, devices.c.device_id == device_models.c.device_id)
        .where(devices.c.status == "active")
        .group_by(device_models.c.model, device_models.c.version)
        .order_by(device_models.c.model, device_models.c.version.desc())
    )
    rows = connection.execute(query)
    numbers = ("devices", "installing", "requests", "errors", "latency_p99_us")
    return [VersionCounts(**{**row._mapping, **{n: int(row._mapping[n]) for n in numbers}}) for row in rows]


def install_failures(connection: Connection, limit: int) -> list[InstallFailure]:
    """The most frequent reasons for which devices' last installs failed; what somebody wanted is no failure."""
    code = device_models.c.reason_code
    query = (
        select(
            device_models.c.model,
            device_models.c.target_version.label("version"),
            code,
            func.count().label("devices"),
            func.min(device_models.c.device_id).label("device_id"),
            func.min(device_models.c.reason).label("reason"),
        )
        .join(devices, devices.c.device_id == device_models.c.device_id)
        .where(devices.c.status == "active", device_models.c.state.in_(FAILED_STATES), code.not_in(_WANTED))
        .group_by(device_models.c.model, device_models.c.target_version, code)
        .order_by(func.count().desc(), device_models.c.model, code)
        .limit(limit)
    )
    return [InstallFailure(**row._mapping) for row in connection.execute(query)]
