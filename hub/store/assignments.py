"""Assignments: what each device should have, one row per device and model. All changes are set-based.

A device's counter and revision move with its assignments in the same transaction: the counter of a new assignment is
one above the highest that the device ever had, and a revision above the published one means "still to be sent".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Float,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.device_filter import Condition, device_ids
from hub.store.repeated import Repeated
from hub.store.rollout_marks import supersede
from hub.store.schema import assignments, device_models, devices, versions

__all__ = [
    "LIVE",
    "AssignmentRow",
    "DeviceDesire",
    "Release",
    "Terms",
    "accepted",
    "assign",
    "converged",
    "desires_of",
    "is_entitled",
    "lock_devices",
    "mark_published",
    "of_deployment",
    "of_version",
    "pending_publications",
    "reissue",
    "reissue_device",
    "reissue_unfinished",
    "republish_all",
    "revision_of",
    "under_way",
    "withdraw_pending",
]

_EXPIRED = "assignment.expired"
_UNDER_WAY = ("assigned", "downloading", "verifying", "staged", "probing", "held", "activating", "probation")
"""States of the device's install machine with work in hand that can still end well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is assigned. `bake_s`: how long the device stays on probation after the install."""

    model: str
    version: int
    bundle_sha256: str
    bundle_bytes: int
    bake_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How it is to be taken. mode: live, hold or shadow. conditions: JSON with `window` and `shadow`; empty: none."""

    mode: str = "live"
    conditions: str = ""


LIVE = Terms()
_SENT_DEVICES = Repeated(
    lambda _: (
        update(devices)
        .where(devices.c.device_id == bindparam("d"))
        .values(published_revision=bindparam("r", type_=BigInteger))
    )
)
_SENT_ASSIGNMENTS = Repeated(
    lambda _: (
        update(assignments)
        .where(
            assignments.c.device_id == bindparam("d"),
            assignments.c.published_s.is_(None),
            exists().where(
                devices.c.device_id == assignments.c.device_id,
                devices.c.desired_revision == bindparam("r", type_=BigInteger),
            ),
        )
        .values(published_s=bindparam("now_s", type_=Float))
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentRow:
    """One assignment as it is to be signed. Times in seconds since 1970; `mode` and `conditions` as in `Terms`."""

    model: str
    version: int
    bundle_sha256: str
    bundle_bytes: int
    counter: int
    bake_s: int
    issued_s: float
    expires_s: float
    deployment_id: str
    mode: str
    conditions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDesire:
    """All that a device should have, at one revision."""

    device_id: str
    revision: int
    assignments: tuple[AssignmentRow, ...]


# --- conditions over a row of `assignments`; the device's own word is in `device_models` -----------------------------
def _report(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(
        device_models.c.device_id == assignments.c.device_id, device_models.c.model == assignments.c.model, *conditions
    )


def of_deployment(deployment_id: str) -> ColumnElement[bool]:
    """Assignments that a deployment made."""
    return assignments.c.deployment_id == deployment_id


def of_version(model: str, version: int) -> ColumnElement[bool]:
    """Assignments of a version."""
    return and_(assignments.c.model == model, assignments.c.version == version)


def converged() -> ColumnElement[bool]:
    """The device serves what it should, and no probation is going on."""
    return and_(
        device_models.c.version == assignments.c.version,
        device_models.c.bundle_sha256 == assignments.c.bundle_sha256,
        device_models.c.state.in_(("committed", "idle")),
    )


def accepted() -> ColumnElement[bool]:
    """The device has spoken about this very assignment, and not only to say that it came too late."""
    return and_(device_models.c.counter >= assignments.c.counter, device_models.c.reason_code != _EXPIRED)


# --- assigning ------------------------------------------------------------------------------------------------------
def assign(
    connection: Connection,
    selection: Condition,
    release: Release,
    deployment_id: str,
    now_s: float,
    expires_s: float,
    terms: Terms = LIVE,
) -> int:
    """Give `release` to every device of `selection` (a condition on `devices`); it replaces what the model had.

    Returns how many devices. The next `desired_state` of each carries it. Rollouts that it takes devices from know.
    """
    lock_devices(connection, selection)
    supersede(connection, selection, release.model, deployment_id, now_s)
    values: dict[str, ColumnElement[Any]] = {
        "device_id": devices.c.device_id,
        "model": literal(release.model),
        "version": literal(release.version),
        "bundle_sha256": literal(release.bundle_sha256),
        "bundle_bytes": literal(release.bundle_bytes),
        "counter": devices.c.assignment_counter + 1,
        "bake_s": literal(release.bake_s),
        "issued_s": literal(now_s, Float),
        "expires_s": literal(expires_s, Float),
        "deployment_id": literal(deployment_id),
        "published_s": null(),
        "mode": literal(terms.mode),
        "conditions": literal(terms.conditions),
    }
    rows = select(*values.values()).where(selection)
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = make(assignments).from_select(list(values), rows)
    fresh = {name: statement.excluded[name] for name in values if name not in ("device_id", "model")}
    connection.execute(statement.on_conflict_do_update(index_elements=["device_id", "model"], set_=fresh))
    return _advance(connection, selection)


def lock_devices(connection: Connection, selection: Condition, values: Mapping[str, Any] | None = None) -> None:
    """Lock these devices in the order of their ids, so that the ingest and this wait for each other in no circle.

    values: of the parameters of `selection`, if it has any.
    """
    if connection.dialect.name == "postgresql":
        ordered = select(devices.c.device_id).where(selection).order_by(devices.c.device_id)
        rows = ordered.with_for_update(key_share=True).subquery()
        connection.execute(select(func.count()).select_from(rows), values)


def _advance(connection: Connection, selection: Condition) -> int:
    """Move counter and revision of those of `selection` that have just got an assignment above their counter."""
    newer = exists().where(
        assignments.c.device_id == devices.c.device_id, assignments.c.counter > devices.c.assignment_counter
    )
    done = connection.execute(
        update(devices)
        .where(selection, newer)
        .values(assignment_counter=devices.c.assignment_counter + 1, desired_revision=devices.c.desired_revision + 1)
    )
    return done.rowcount


def _owners(among: ColumnElement[bool]) -> Condition:
    """Devices with an assignment in `among`: a query of its own, computed once and not once a device."""
    return devices.c.device_id.in_(select(assignments.c.device_id).where(among))


def withdraw_pending(connection: Connection, among: ColumnElement[bool]) -> int:
    """Take back the assignments in `among` (a condition on `assignments`) whose devices have not converged."""
    pending = and_(among, ~_report(converged()))
    lock_devices(connection, _owners(pending))
    connection.execute(update(devices).where(_owners(pending)).values(desired_revision=devices.c.desired_revision + 1))
    return connection.execute(delete(assignments).where(pending)).rowcount


def under_way() -> ColumnElement[bool]:
    """The device is installing, so that a restart may make it check its assignment once more."""
    return device_models.c.state.in_(_UNDER_WAY)


def reissue(connection: Connection, now_s: float, before_s: float, expires_s: float) -> int:
    """Renew, with a new counter, what expires before `before_s` and the device has not taken up; returns devices.

    Not renewed: what a device serves, installs or refused for a reason of its own.
    """
    stale = and_(assignments.c.expires_s < before_s, ~_report(or_(converged(), accepted())))
    return _renew(connection, stale, now_s, expires_s)


def reissue_unfinished(connection: Connection, now_s: float, expires_s: float) -> int:
    """Renew, with a new counter, all that devices have not taken up or are still installing; returns devices.

    Not renewed: what a device serves, or refused or rolled back for a reason of its own.
    """
    settled = or_(converged(), and_(accepted(), ~under_way()))
    return _renew(connection, ~_report(settled), now_s, expires_s)


def reissue_device(connection: Connection, device_id: str, now_s: float, expires_s: float) -> int:
    """Renew all assignments of one device, whatever it said before: it has started anew. Returns 0 or 1."""
    return _renew(connection, assignments.c.device_id == device_id, now_s, expires_s)


def _renew(connection: Connection, among: ColumnElement[bool], now_s: float, expires_s: float) -> int:
    """Give the assignments in `among` a new counter and expiry, if version and device are still good for it."""
    owner = devices.c.device_id == assignments.c.device_id
    approved = exists().where(
        versions.c.model == assignments.c.model,
        versions.c.version == assignments.c.version,
        versions.c.status == "approved",
    )
    due = and_(among, approved)
    lock_devices(connection, _owners(due))
    counter = select(devices.c.assignment_counter + 1).where(owner).scalar_subquery()
    connection.execute(
        update(assignments)
        .where(due, exists().where(owner, devices.c.status == "active"))
        .values(counter=counter, issued_s=now_s, expires_s=expires_s, published_s=None)
    )
    return _advance(connection, _owners(assignments.c.published_s.is_(None)))


# --- publishing -----------------------------------------------------------------------------------------------------
def desires_of(connection: Connection, device_ids: Sequence[str]) -> list[DeviceDesire]:
    """What these devices should have, by id; revoked and unknown ones are left out."""
    wanted = list(device_ids)
    revisions = connection.execute(
        select(devices.c.device_id, devices.c.desired_revision)
        .where(devices.c.device_id.in_(wanted), devices.c.status == "active")
        .order_by(devices.c.device_id)
    ).all()
    columns = [assignments.c[name] for name in AssignmentRow.__dataclass_fields__]
    rows = connection.execute(
        select(assignments.c.device_id, *columns)
        .where(assignments.c.device_id.in_(wanted))
        .order_by(assignments.c.device_id, assignments.c.model)
    )
    owned: dict[str, list[AssignmentRow]] = {}
    for row in rows:
        values = dict(row._mapping)
        owned.setdefault(values.pop("device_id"), []).append(AssignmentRow(**values))
    return [
        DeviceDesire(device_id=d.device_id, revision=d.desired_revision, assignments=tuple(owned.get(d.device_id, ())))
        for d in revisions
    ]


def revision_of(connection: Connection, device_id: str) -> int | None:
    """The revision of an active device's desired state; None: there is no such device."""
    query = select(devices.c.desired_revision).where(devices.c.device_id == device_id, devices.c.status == "active")
    return connection.execute(query).scalar_one_or_none()


def pending_publications(connection: Connection, limit: int) -> list[str]:
    """Active devices whose desired state is newer than what was sent last, by id."""
    query = (
        select(devices.c.device_id)
        .where(devices.c.desired_revision > devices.c.published_revision, devices.c.status == "active")
        .order_by(devices.c.device_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def mark_published(connection: Connection, revisions: Mapping[str, int], now_s: float) -> None:
    """Note which revision was sent last to which device; while it is not the newest one, the device is pending."""
    if not revisions:
        return
    rows = [{"d": device_id, "r": revision, "now_s": now_s} for device_id, revision in revisions.items()]
    lock_devices(connection, device_ids(list(revisions)))
    _SENT_DEVICES.run(connection, rows)
    _SENT_ASSIGNMENTS.run(connection, rows)


def republish_all(connection: Connection) -> int:
    """Mark everything as still to be sent, because the broker lost what it kept; returns how many devices."""
    return connection.execute(
        update(devices).where(devices.c.published_revision > 0).values(published_revision=0)
    ).rowcount


def is_entitled(connection: Connection, device_id: str, sha256: str) -> bool:
    """Whether a device may fetch a bundle: it is assigned to it, or the device serves it or could roll back to it."""
    assigned = exists().where(assignments.c.device_id == device_id, assignments.c.bundle_sha256 == sha256)
    held = exists().where(
        versions.c.bundle_sha256 == sha256,
        device_models.c.device_id == device_id,
        device_models.c.model == versions.c.model,
        or_(
            device_models.c.bundle_sha256 == sha256,
            device_models.c.version == versions.c.version,
            device_models.c.previous_version == versions.c.version,
        ),
    )
    return bool(connection.execute(select(or_(assigned, held))).scalar_one())
