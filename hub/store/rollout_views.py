"""Rollouts for people: why devices failed, which device is where, and all that is known about one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, false, func, or_, select, union

from hub.store.page import PageRequest, after
from hub.store.schema import (
    assignments,
    device_models,
    device_status,
    install_reports,
    rollout_devices,
    rollout_groups,
    rollouts,
)

__all__ = ["DeviceRow", "FailureRow", "Membership", "Standing", "changes_of", "failures", "memberships", "page_devices"]
__all__ += ["standing"]

_ROW = rollout_devices.c
_FAILED = ("failed", "reverted")
_RETURNED = ("rolling_back", "rolled_back")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """A reason for which devices failed: how many, and one of them. `rank` counts examples of one reason from 1."""

    reason_code: str
    devices: int
    device_id: str
    profile: str
    reason: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One device of a rollout. `said`: its own word for the state of its install."""

    device_id: str
    profile: str
    group_no: int
    state: str
    attempts: int
    target_version: int | None
    previous_version: int | None
    running_version: int | None
    said: str
    reason_code: str
    reason: str
    changed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a device serves and should have of one model. spoken: `state` and reason are about the newest assignment."""

    model: str
    serves: int | None
    state: str
    reason_code: str
    reason: str
    wanted: int | None
    deployment_id: str | None
    mode: str
    published_s: float | None
    spoken: bool
    last_seen_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A device in one rollout."""

    rollout_no: int
    rollout_id: str
    version: int
    group_no: int
    group: str
    state: str
    attempts: int
    timezone: str
    reason_code: str
    current: bool
    changed_s: float


def changes_of(connection: Connection, rollout_id: str) -> tuple[int, str] | None:
    """What grows with all that is to be seen, and the model; None: there is no such rollout."""
    query = select(rollouts.c.changes, rollouts.c.model).where(rollouts.c.rollout_id == rollout_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else (row.changes, row.model)


def _said() -> ColumnElement[bool]:
    return and_(device_models.c.device_id == _ROW.device_id, device_models.c.model == _ROW.model)


def failures(connection: Connection, rollout_no: int, reasons: int, examples: int) -> list[FailureRow]:
    """The most frequent reasons for failure, each with some devices; also of devices that went back since."""
    rank = func.row_number().over(partition_by=_ROW.reason_code, order_by=_ROW.device_id)
    total = func.count().over(partition_by=_ROW.reason_code)
    found = (
        select(
            _ROW.reason_code,
            total.label("devices"),
            _ROW.device_id,
            _ROW.profile,
            rank.label("rank"),
        )
        .where(
            _ROW.rollout_no == rollout_no,
            or_(_ROW.state.in_(_FAILED), and_(_ROW.state.in_(_RETURNED), _ROW.reason_code != "")),
        )
        .subquery()
    )
    reported = install_reports.c
    reason = (
        select(reported.reason)
        .join(rollouts, and_(rollouts.c.model == reported.model, rollouts.c.version == reported.version))
        .where(
            rollouts.c.rollout_no == rollout_no,
            reported.device_id == found.c.device_id,
            reported.reason_code == found.c.reason_code,
        )
        .order_by(reported.received_s.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(found, func.coalesce(reason, "").label("reason"))
        .where(found.c.rank <= examples)
        .order_by(found.c.devices.desc(), found.c.reason_code, found.c.rank)
        .limit(reasons * examples)
    )
    return [FailureRow(**row._mapping) for row in connection.execute(query)]


def page_devices(
    connection: Connection, rollout_no: int, page: PageRequest, states: Sequence[str] = (), group_no: int | None = None
) -> list[DeviceRow]:
    """Devices by id, all or of one group, in these states."""
    columns = (
        _ROW.device_id,
        _ROW.profile,
        _ROW.group_no,
        _ROW.state,
        _ROW.attempts,
        _ROW.target_version,
        _ROW.previous_version,
        device_models.c.version.label("running_version"),
        func.coalesce(device_models.c.state, "").label("said"),
        _ROW.reason_code,
        func.coalesce(device_models.c.reason, "").label("reason"),
        _ROW.changed_s,
    )
    query = (
        select(*columns)
        .select_from(rollout_devices.outerjoin(device_models, _said()))
        .where(_ROW.rollout_no == rollout_no, *after([_ROW.device_id], page))
    )
    if states:
        query = query.where(_ROW.state.in_(list(states)))
    if group_no is not None:
        query = query.where(_ROW.group_no == group_no)
    query = query.order_by(_ROW.device_id).limit(page.fetch)
    return [DeviceRow(**row._mapping) for row in connection.execute(query)]


def _rollouts_of(device_id: str) -> Select[tuple[int]]:
    """By the key, rollout by rollout: there are few rollouts, and many devices."""
    member = exists().where(_ROW.rollout_no == rollouts.c.rollout_no, _ROW.device_id == device_id)
    return select(rollouts.c.rollout_no).where(member)


def standing(connection: Connection, device_id: str) -> list[Standing]:
    """What a device serves and should have, by model."""
    names = union(
        select(device_models.c.model.label("model")).where(device_models.c.device_id == device_id),
        select(assignments.c.model).where(assignments.c.device_id == device_id),
        select(rollouts.c.model).where(rollouts.c.rollout_no.in_(_rollouts_of(device_id))),
    ).subquery()
    own = and_(device_models.c.device_id == device_id, device_models.c.model == names.c.model)
    given = and_(assignments.c.device_id == device_id, assignments.c.model == names.c.model)
    query = (
        select(
            names.c.model,
            device_models.c.version.label("serves"),
            func.coalesce(device_models.c.state, "").label("state"),
            func.coalesce(device_models.c.reason_code, "").label("reason_code"),
            func.coalesce(device_models.c.reason, "").label("reason"),
            assignments.c.version.label("wanted"),
            assignments.c.deployment_id,
            func.coalesce(assignments.c.mode, "live").label("mode"),
            assignments.c.published_s,
            func.coalesce(device_models.c.counter >= assignments.c.counter, false()).label("spoken"),
            select(device_status.c.last_seen_s)
            .where(device_status.c.device_id == device_id)
            .scalar_subquery()
            .label("last_seen_s"),
        )
        .select_from(names.outerjoin(device_models, own).outerjoin(assignments, given))
        .order_by(names.c.model)
    )
    return [Standing(**{**row._mapping, "spoken": bool(row.spoken)}) for row in connection.execute(query)]


def memberships(connection: Connection, device_id: str, model: str, limit: int) -> list[Membership]:
    """The rollouts of a model that a device is or was in, newest first."""
    query = (
        select(
            rollouts.c.rollout_no,
            rollouts.c.rollout_id,
            rollouts.c.version,
            _ROW.group_no,
            rollout_groups.c.name.label("group"),
            _ROW.state,
            _ROW.attempts,
            _ROW.timezone,
            _ROW.reason_code,
            _ROW.current,
            _ROW.changed_s,
        )
        .join_from(rollouts, rollout_devices, _ROW.rollout_no == rollouts.c.rollout_no)
        .join(
            rollout_groups,
            and_(rollout_groups.c.rollout_no == rollouts.c.rollout_no, rollout_groups.c.group_no == _ROW.group_no),
        )
        .where(rollouts.c.model == model, _ROW.device_id == device_id)
        .order_by(rollouts.c.rollout_no.desc())
        .limit(limit)
    )
    return [Membership(**{**row._mapping, "current": bool(row.current)}) for row in connection.execute(query)]
