"""Versions and their gate results. A version's bytes and manifest never change; its status does, by legal steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import blobs, gate_results, versions
from shared.errors import Conflict, NotFound

__all__ = [
    "GateRow",
    "Status",
    "TRANSITIONS",
    "VersionRow",
    "children",
    "find_version",
    "get_version",
    "insert_gate_result",
    "insert_version",
    "latest_gate_result",
    "list_gate_results",
    "list_versions",
    "parents",
    "reopen_gated",
    "set_status",
]


class Status(StrEnum):
    """Where a version stands."""

    REGISTERED = "registered"
    GATED = "gated"  # the newest gate run passed
    APPROVED = "approved"  # its release has the signatures that it needs
    REJECTED = "rejected"  # the newest gate run failed
    WITHDRAWN = "withdrawn"  # never to be deployed again


TRANSITIONS: frozenset[tuple[Status, Status]] = frozenset(
    {
        (Status.REGISTERED, Status.GATED),
        (Status.REGISTERED, Status.REJECTED),
        (Status.REJECTED, Status.GATED),
        (Status.GATED, Status.REJECTED),
        (Status.GATED, Status.REGISTERED),  # the gate's policy changed: the evidence was for another one
        (Status.GATED, Status.APPROVED),
        (Status.REGISTERED, Status.WITHDRAWN),
        (Status.GATED, Status.WITHDRAWN),
        (Status.REJECTED, Status.WITHDRAWN),
        (Status.APPROVED, Status.WITHDRAWN),
    }
)
"""The legal steps; a step to the same status is no step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A version. `manifest` is the canonical JSON text of the bundle; `available`: its bytes are still stored."""

    model: str
    version: int
    status: Status
    bundle_sha256: str
    bundle_bytes: int
    manifest: str
    card: str
    parent_version: int | None
    created_s: float
    created_by: str
    approved_s: float | None
    available: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One gate run with its evidence. `metrics` and `checks` as `hub.gates.evidence` writes them."""

    gate_id: int
    model: str
    version: int
    dataset_sha256: str
    dataset_name: str
    passed: bool
    metrics: dict[str, Any]
    checks: list[dict[str, Any]]
    at_s: float
    by: str


_VERSION = (
    select(versions, blobs.c.collected_s.is_(None).label("available"))
    .join(blobs, blobs.c.sha256 == versions.c.bundle_sha256)
    .order_by(versions.c.version.desc())
)


def _version(row: Row[Any]) -> VersionRow:
    return VersionRow(**{**row._mapping, "status": Status(row.status), "available": bool(row.available)})


def _gate(row: Row[Any]) -> GateRow:
    return GateRow(**{**row._mapping, "passed": bool(row.passed)})


def insert_version(connection: Connection, row: VersionRow) -> None:
    """Add a version; its blob is recorded already."""
    connection.execute(
        insert(versions).values(
            model=row.model,
            version=row.version,
            status=row.status.value,
            bundle_sha256=row.bundle_sha256,
            bundle_bytes=row.bundle_bytes,
            manifest=row.manifest,
            card=row.card,
            parent_version=row.parent_version,
            created_s=row.created_s,
            created_by=row.created_by,
        )
    )


def find_version(connection: Connection, model: str, version: int) -> VersionRow | None:
    """The version, if there is one."""
    query = _VERSION.where(versions.c.model == model, versions.c.version == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else _version(row)


def get_version(connection: Connection, model: str, version: int) -> VersionRow:
    """The version, or `NotFound` (`version.unknown`)."""
    row = find_version(connection, model, version)
    if row is None:
        raise NotFound(
            "version.unknown",
            f"There is no version {version} of {model!r:.60}.",
            hint=f"`skerry versions list {model}` names those there are." if len(model) <= 48 else "",
        )
    return row


def list_versions(
    connection: Connection, model: str, page: PageRequest, statuses: Sequence[Status] = ()
) -> list[VersionRow]:
    """Versions of a model, newest first; `statuses` empty: all."""
    query = _VERSION.where(versions.c.model == model, *after([versions.c.version], page, descending=True))
    if statuses:
        query = query.where(versions.c.status.in_([status.value for status in statuses]))
    return [_version(row) for row in connection.execute(query.limit(page.fetch))]


def parents(connection: Connection, model: str) -> dict[int, int | None]:
    """Version to parent version for a whole model."""
    query = select(versions.c.version, versions.c.parent_version).where(versions.c.model == model)
    return {row.version: row.parent_version for row in connection.execute(query)}


def children(connection: Connection, model: str, parent: int, by: str) -> list[int]:
    """The versions of a parent that `by` registered, oldest first."""
    query = select(versions.c.version).where(
        versions.c.model == model, versions.c.parent_version == parent, versions.c.created_by == by
    )
    return list(connection.execute(query.order_by(versions.c.version)).scalars())


def set_status(connection: Connection, row: VersionRow, to: Status, now_s: float) -> None:
    """Take a legal step, or `Conflict` (`version.transition`); the status must still be the one in `row`."""
    if row.status == to:
        return
    if (row.status, to) not in TRANSITIONS:
        raise Conflict(
            "version.transition",
            f"Version {row.version} of {row.model} is {row.status.value} and cannot become {to.value}.",
            detail={"status": row.status.value, "wanted": to.value},
        )
    changes: dict[str, Any] = {"status": to.value}
    if to is Status.APPROVED:
        changes["approved_s"] = now_s
    done = connection.execute(
        update(versions)
        .where(
            versions.c.model == row.model, versions.c.version == row.version, versions.c.status == row.status.value
        )
        .values(**changes)
    )
    if done.rowcount != 1:
        raise Conflict(
            "version.changed", "The version's status changed meanwhile.", hint="Look at it again.", retriable=True
        )


def reopen_gated(connection: Connection, model: str) -> int:
    """Send gated versions back to registered, because the policy changed; returns how many."""
    done = connection.execute(
        update(versions)
        .where(versions.c.model == model, versions.c.status == Status.GATED.value)
        .values(status=Status.REGISTERED.value)
    )
    return done.rowcount


def insert_gate_result(connection: Connection, row: GateRow) -> GateRow:
    """Append a gate run; the answer has its number."""
    values = {
        "model": row.model,
        "version": row.version,
        "dataset_sha256": row.dataset_sha256,
        "dataset_name": row.dataset_name,
        "passed": int(row.passed),
        "metrics": row.metrics,
        "checks": row.checks,
        "at_s": row.at_s,
        "by": row.by,
    }
    number = connection.execute(insert(gate_results).values(**values).returning(gate_results.c.gate_id)).scalar_one()
    return GateRow(**{**values, "passed": row.passed, "gate_id": number})


def latest_gate_result(connection: Connection, model: str, version: int) -> GateRow | None:
    """The newest gate run of a version, if there was one."""
    found = list_gate_results(connection, model, version, PageRequest(limit=1))
    return found[0] if found else None


def list_gate_results(connection: Connection, model: str, version: int, page: PageRequest) -> list[GateRow]:
    """Gate runs of a version, newest first."""
    query = (
        select(gate_results)
        .where(
            gate_results.c.model == model,
            gate_results.c.version == version,
            *after([gate_results.c.gate_id], page, descending=True),
        )
        .order_by(gate_results.c.gate_id.desc())
        .limit(page.fetch)
    )
    return [_gate(row) for row in connection.execute(query)]
