"""What became of approved versions by their models' policies, and what that is decided by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from hub.store.page import PageRequest, after
from hub.store.schema import (
    audit,
    blobs,
    deploy_decisions,
    deploy_policies,
    device_models,
    devices,
    gate_results,
    rollouts,
    versions,
)

__all__ = ["DecisionRow", "UndecidedRow", "add_decision", "candidate", "decided_by_rollout", "forget_refused"]
__all__ += ["is_decided", "list_decisions", "mark_before", "newest_rolling_out", "newest_served", "signatures_over"]
__all__ += ["undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UndecidedRow:
    """A version with what counts about it. gate_passed None: no gate run is known."""

    model: str
    version: int
    status: str
    manifest: str
    available: bool
    gate_passed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What became of one version."""

    model: str
    version: int
    at_s: float
    state: str
    rollout_id: str
    code: str
    reason: str
    evidence: Mapping[str, Any]


_D = deploy_decisions.c
_NEWEST = (versions.c.model, versions.c.version.desc())
_PASSED = (
    select(gate_results.c.passed)
    .where(gate_results.c.model == versions.c.model, gate_results.c.version == versions.c.version)
    .order_by(gate_results.c.gate_id.desc())
    .limit(1)
    .scalar_subquery()
)
_VERSION = select(
    versions.c.model,
    versions.c.version,
    versions.c.status,
    versions.c.manifest,
    blobs.c.collected_s.is_(None).label("available"),
    _PASSED.label("gate_passed"),
).join(blobs, blobs.c.sha256 == versions.c.bundle_sha256)


def undecided(connection: Connection, limit: int) -> list[UndecidedRow]:
    """Approved versions of models with a policy about which nothing was decided; of each model the newest first."""
    known = select(_D.version).where(_D.model == versions.c.model, _D.version == versions.c.version)
    query = _VERSION.join(deploy_policies, deploy_policies.c.model == versions.c.model)
    query = query.where(versions.c.status == "approved", ~known.exists())
    return [_undecided(row) for row in connection.execute(query.order_by(*_NEWEST).limit(limit))]


def candidate(connection: Connection, model: str, version: int | None) -> UndecidedRow | None:
    """A version, or the newest of the model, as a decision would see it."""
    query = _VERSION.where(versions.c.model == model).order_by(*_NEWEST).limit(1)
    if version is not None:
        query = query.where(versions.c.version == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else _undecided(row)


def _undecided(row: Row[Any]) -> UndecidedRow:
    passed = None if row.gate_passed is None else bool(row.gate_passed)
    return UndecidedRow(**{**row._mapping, "available": bool(row.available), "gate_passed": passed})


def newest_served(connection: Connection, models: Collection[str]) -> dict[str, int]:
    """By model, the newest version that an active device serves."""
    m = device_models.c
    query = (
        select(m.model, func.max(m.version))
        .join(devices, devices.c.device_id == m.device_id)
        .where(m.model.in_(sorted(models)), m.version.is_not(None), devices.c.status == "active")
        .group_by(m.model)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def newest_rolling_out(connection: Connection, models: Collection[str], ended: Collection[str]) -> dict[str, int]:
    """By model, the newest version of a rollout that goes on."""
    r = rollouts.c
    query = select(r.model, func.max(r.version)).where(r.model.in_(sorted(models)), r.status.not_in(sorted(ended)))
    return {row[0]: int(row[1]) for row in connection.execute(query.group_by(r.model))}


def signatures_over(connection: Connection, role: str, limit: int) -> list[tuple[str, str]]:
    """(actor, detail as JSON text) of the newest signatures for a role, as the audit log has them."""
    query = select(audit.c.actor, audit.c.detail).where(audit.c.action == "trust.signed", audit.c.subject == role)
    return [(row[0], row[1]) for row in connection.execute(query.order_by(audit.c.seq.desc()).limit(limit))]


# --- what was decided -----------------------------------------------------------------------------------------------
def add_decision(connection: Connection, row: DecisionRow) -> None:
    """Keep a decision; a second one about the same version is an integrity error."""
    connection.execute(
        insert(deploy_decisions).values(**{name: getattr(row, name) for name in DecisionRow.__dataclass_fields__})
    )


def is_decided(connection: Connection, model: str, version: int) -> bool:
    """Whether something was decided about the version."""
    query = select(_D.version).where(_D.model == model, _D.version == version)
    return connection.execute(query).first() is not None


def mark_before(connection: Connection, model: str, at_s: float) -> int:
    """Keep that what is approved now was so before the policy, which is not about it; how many versions."""
    known = select(_D.version).where(_D.model == versions.c.model, _D.version == versions.c.version)
    rows = select(versions.c.version).where(versions.c.model == model, versions.c.status == "approved", ~known.exists())
    told = {
        "model": model, "at_s": at_s, "state": "before", "rollout_id": "", "code": "approved_before", "evidence": {},
        "reason": "it was approved before there was a policy",
    }  # fmt: skip
    found = [{"version": version, **told} for version in connection.scalars(rows)]
    if found:
        connection.execute(insert(deploy_decisions), found)
    return len(found)


def forget_refused(connection: Connection, model: str) -> None:
    """Let what was refused be decided again: the policy has changed."""
    connection.execute(delete(deploy_decisions).where(_D.model == model, _D.state == "refused"))


def list_decisions(connection: Connection, model: str, page: PageRequest) -> list[DecisionRow]:
    """Decisions about a model's versions, newest version first."""
    where = (_D.model == model, *after([_D.version], page, descending=True))
    query = select(deploy_decisions).where(*where).order_by(_D.version.desc()).limit(page.fetch)
    return [DecisionRow(**row) for row in connection.execute(query).mappings()]


def decided_by_rollout(connection: Connection, rollout_id: str) -> DecisionRow | None:
    """The decision that made a rollout, if one did."""
    query = select(deploy_decisions).where(_D.rollout_id == rollout_id, _D.rollout_id != "")
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else DecisionRow(**row)
