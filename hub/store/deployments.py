"""Deployments: who asked for what, which devices can take it, and how far they are. Counted in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from hub.store.assignments import converged
from hub.store.device_filter import Condition, device_ids
from hub.store.page import PageRequest, after
from hub.store.schema import assignments, deployments, device_models, devices
from shared.errors import NotFound
from shared.limits import MAX_ASSIGNMENTS_PER_DEVICE_COUNT

__all__ = [
    "DeploymentRow",
    "DeviceProgress",
    "Downloads",
    "Failure",
    "Skip",
    "chosen_devices",
    "download_totals",
    "eligible",
    "get_deployment",
    "insert_deployment",
    "list_deployments",
    "list_failures",
    "list_progress",
    "mark_cancelled",
    "profiles_of",
    "progress_counts",
    "skip_counts",
    "skip_examples",
    "skip_reason",
]

_CHUNK_COUNT = 5000
FAILED_STATES = ("rolled_back", "inconsistent")
SETTLED_STATES = ("committed", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRow:
    """One deployment. `skipped`: devices that the filter chose but could not take it, by reason code."""

    deployment_id: str
    model: str
    version: int
    filter: str
    devices: int
    skipped: Mapping[str, int]
    created_s: float
    created_by: str
    note: str
    cancelled_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A device that cannot take the version."""

    device_id: str
    profile: str
    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A reason for which devices failed: how many, and one of them. `rank` counts examples of one reason from 1."""

    reason_code: str
    devices: int
    device_id: str
    reason: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """Bytes over the network: what so many devices fetched, and what it would have been without deltas."""

    devices: int
    bytes: int
    whole_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgress:
    """How far one device is. `progress` as in `progress_counts`; `state`: the device's own word, empty: none yet."""

    device_id: str
    progress: str
    state: str
    running_version: int | None
    reason_code: str
    reason: str
    updated_s: float | None


# --- which devices can take a version ---------------------------------------------------------------------------------
def profiles_of(connection: Connection, selection: Condition) -> list[str]:
    """The firmware profiles of the chosen devices."""
    query = select(devices.c.profile).where(selection).distinct().order_by(devices.c.profile)
    return list(connection.execute(query).scalars())


def skip_reason(model: str, unfit: Mapping[str, str]) -> ColumnElement[str]:
    """Why a device cannot take a version of `model`, or an empty text; `unfit`: firmware profile to reason code."""
    others = (
        select(func.count())
        .select_from(assignments)
        .where(assignments.c.device_id == devices.c.device_id, assignments.c.model != model)
        .correlate(devices)
        .scalar_subquery()
    )
    by_profile = [(devices.c.profile == profile, literal(code)) for profile, code in sorted(unfit.items())]
    return case(
        (devices.c.status != "active", literal("device.revoked")),
        *by_profile,
        (others >= MAX_ASSIGNMENTS_PER_DEVICE_COUNT, literal("deployment.too_many_models")),
        else_=literal(""),
    )


def eligible(selection: Condition, reason: ColumnElement[str]) -> Condition:
    """The chosen devices that can take the version."""
    return and_(selection, reason == "")


def chosen_devices(connection: Connection, chosen: Condition) -> list[Condition]:
    """These devices by their ids, some thousands in each condition.

    They are looked for once: what a filter asks about goes on being reported while a deployment is made.
    """
    ids = list(connection.scalars(select(devices.c.device_id).where(chosen).order_by(devices.c.device_id)))
    return [device_ids(ids[start : start + _CHUNK_COUNT]) for start in range(0, len(ids), _CHUNK_COUNT)]


def skip_counts(connection: Connection, selection: Condition, reason: ColumnElement[str]) -> dict[str, int]:
    """How many devices per reason; the empty reason counts those that can take the version."""
    found = select(reason.label("code")).where(selection).subquery()
    query = select(found.c.code, func.count().label("n")).group_by(found.c.code)
    return {row.code: row.n for row in connection.execute(query)}


def skip_examples(
    connection: Connection, selection: Condition, reason: ColumnElement[str], limit: int
) -> list[Skip]:
    """Some of the devices that cannot take the version, by id."""
    query = (
        select(devices.c.device_id, devices.c.profile, reason.label("reason_code"))
        .where(selection, reason != "")
        .order_by(devices.c.device_id)
        .limit(limit)
    )
    return [Skip(**row._mapping) for row in connection.execute(query)]


# --- deployments ------------------------------------------------------------------------------------------------------
def _deployment(row: Row[Any]) -> DeploymentRow:
    return DeploymentRow(**row._mapping)


def insert_deployment(connection: Connection, row: DeploymentRow) -> None:
    """Add a deployment."""
    connection.execute(
        insert(deployments).values(
            deployment_id=row.deployment_id,
            model=row.model,
            version=row.version,
            filter=row.filter,
            devices=row.devices,
            skipped=dict(row.skipped),
            created_s=row.created_s,
            created_by=row.created_by,
            note=row.note,
        )
    )


def get_deployment(connection: Connection, deployment_id: str) -> DeploymentRow:
    """A deployment, or `NotFound` (`deployment.unknown`)."""
    row = connection.execute(select(deployments).where(deployments.c.deployment_id == deployment_id)).one_or_none()
    if row is None:
        raise NotFound("deployment.unknown", f"There is no deployment {deployment_id!r:.60}.")
    return _deployment(row)


def list_deployments(
    connection: Connection, page: PageRequest, model: str | None = None, only: frozenset[str] | None = None
) -> list[DeploymentRow]:
    """Deployments, newest first; of one model, or of the models of a token's scope, if asked."""
    order = (deployments.c.created_s, deployments.c.deployment_id)
    query = select(deployments).where(*after(order, page, descending=True))
    if model is not None:
        query = query.where(deployments.c.model == model)
    if only is not None:
        query = query.where(deployments.c.model.in_(sorted(only)))
    query = query.order_by(*(column.desc() for column in order)).limit(page.fetch)
    return [_deployment(row) for row in connection.execute(query)]


def mark_cancelled(connection: Connection, deployment_id: str, now_s: float) -> None:
    """Note that a deployment was cancelled."""
    connection.execute(
        update(deployments).where(deployments.c.deployment_id == deployment_id).values(cancelled_s=now_s)
    )


# --- progress ---------------------------------------------------------------------------------------------------------
def _spoken() -> ColumnElement[bool]:
    return device_models.c.counter >= assignments.c.counter


def _failed() -> ColumnElement[bool]:
    """The device is through with this assignment and does not serve its version."""
    ended = or_(device_models.c.state.in_(FAILED_STATES), device_models.c.state.in_(SETTLED_STATES))
    return and_(_spoken(), ended)


def _progress() -> ColumnElement[str]:
    return case(
        (converged(), "succeeded"),
        (_failed(), "failed"),
        (_spoken(), "installing"),
        (assignments.c.published_s.is_not(None), "sent"),
        else_="pending",
    )


def _joined(query: Select[*tuple[Any, ...]], deployment_id: str) -> Select[*tuple[Any, ...]]:
    same = and_(
        device_models.c.device_id == assignments.c.device_id, device_models.c.model == assignments.c.model
    )
    return query.select_from(assignments.outerjoin(device_models, same)).where(
        assignments.c.deployment_id == deployment_id
    )


def progress_counts(connection: Connection, deployment_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Devices by progress (pending, sent, installing, succeeded, failed), and installing ones by their own state.

    Devices that a newer assignment has taken over are in neither.
    """
    found = _joined(
        select(_progress().label("progress"), func.coalesce(device_models.c.state, "").label("state")), deployment_id
    ).subquery()
    query = select(found.c.progress, found.c.state, func.count().label("n")).group_by(found.c.progress, found.c.state)
    progress: dict[str, int] = {}
    states: dict[str, int] = {}
    for row in connection.execute(query):
        progress[row.progress] = progress.get(row.progress, 0) + row.n
        if row.progress == "installing":
            states[row.state] = row.n
    return progress, states


def download_totals(connection: Connection, deployment_id: str) -> Downloads:
    """What the devices that serve the version fetched for it, and what whole bundles would have been."""
    fetched = device_models.c.bytes_downloaded
    columns = (
        func.count().label("devices"),
        func.coalesce(func.sum(fetched), 0).label("bytes"),
        func.coalesce(func.sum(assignments.c.bundle_bytes), 0).label("whole_bytes"),
    )
    done = (fetched.is_not(None), device_models.c.target_version == assignments.c.version, _progress() == "succeeded")
    row = connection.execute(_joined(select(*columns), deployment_id).where(*done)).one()
    return Downloads(devices=int(row.devices), bytes=int(row.bytes), whole_bytes=int(row.whole_bytes))


def list_failures(connection: Connection, deployment_id: str, reasons: int, examples: int) -> list[Failure]:
    """The most frequent reasons for failure, each with some devices."""
    code = device_models.c.reason_code
    rank = func.row_number().over(partition_by=code, order_by=device_models.c.device_id)
    total = func.count().over(partition_by=code)
    columns = (
        code.label("reason_code"),
        total.label("devices"),
        assignments.c.device_id,
        device_models.c.reason,
        rank.label("rank"),
    )
    found = _joined(select(*columns), deployment_id).where(_progress() == "failed").subquery()
    query = (
        select(found)
        .where(found.c.rank <= examples)
        .order_by(found.c.devices.desc(), found.c.reason_code, found.c.rank)
        .limit(reasons * examples)
    )
    return [Failure(**row._mapping) for row in connection.execute(query)]


def list_progress(
    connection: Connection, deployment_id: str, page: PageRequest, wanted: Sequence[str] = ()
) -> list[DeviceProgress]:
    """The devices of a deployment by id; `wanted`: only with this progress."""
    columns = (
        assignments.c.device_id,
        _progress().label("progress"),
        func.coalesce(device_models.c.state, "").label("state"),
        device_models.c.version.label("running_version"),
        func.coalesce(device_models.c.reason_code, "").label("reason_code"),
        func.coalesce(device_models.c.reason, "").label("reason"),
        device_models.c.updated_s,
    )
    query = _joined(select(*columns), deployment_id).where(*after([assignments.c.device_id], page))
    if wanted:
        query = query.where(_progress().in_(list(wanted)))
    query = query.order_by(assignments.c.device_id).limit(page.fetch)
    return [DeviceProgress(**row._mapping) for row in connection.execute(query)]
