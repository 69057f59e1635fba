"""Health of versions: added up by the ingest, read by the gates, pruned by the scheduler. All of it set-based.

The questions of gates are about one version of one model (or its controls) since a moment, by profile:

    version_health, version_latency      what devices said about the version; `cohort`: only those of one deployment
    control_health, control_latency      the other versions of the model, on the same profiles in the same periods
    shadow_health, shadow_latency        a candidate beside the version that serves

A moment stands for the period that it falls into (`HEALTH_PERIOD_S`): a version that was just installed has said
nothing before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, bindparam, delete, func, select, tuple_

from hub.store.repeated import Row, added
from hub.store.schema import assignments, health_latency, health_windows, models, shadow_windows, versions
from shared.latency import Sparse
from shared.limits import HEALTH_PERIOD_S

__all__ = [
    "HealthSums",
    "Scope",
    "ShadowSums",
    "add_health",
    "cohorts_of",
    "control_health",
    "control_latency",
    "known_versions",
    "prune_health",
    "shadow_health",
    "shadow_latency",
    "version_health",
    "version_latency",
]

_WINDOWS = added(health_windows)
_SHADOWS = added(shadow_windows)
_LATENCIES = added(health_latency)
_COHORTS = select(assignments.c.device_id, assignments.c.model, assignments.c.deployment_id).where(
    assignments.c.device_id.in_(bindparam("ids", expanding=True))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a question is about: from the period of `since_s` on, before that of `until_s`; cohort: None is all."""

    model: str
    version: int
    since_s: float
    until_s: float | None = None
    cohort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSums:
    """Sums over the devices of one profile. `reports` are messages; a device sends one every telemetry interval."""

    reports: int
    requests: int
    errors: int
    over_budget: int
    crashes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSums:
    """Sums of a candidate in shadow mode (`shared.wire.health.ShadowHealth` says what each one counts).

    stopped: messages in which a device said that the candidate no longer runs.
    """

    reports: int
    compared: int
    disagreed: int
    errors: int
    over_budget: int
    skipped: int
    crashes: int
    stopped: int


# --- ingest ---------------------------------------------------------------------------------------------------------
def cohorts_of(connection: Connection, device_ids: Collection[str]) -> dict[tuple[str, str], str]:
    """The deployment of each (device, model) that these devices are assigned."""
    if not device_ids:
        return {}
    rows = connection.execute(_COHORTS, {"ids": list(device_ids)}).all()
    return {(device_id, model): deployment_id for device_id, model, deployment_id in rows}


def known_versions(connection: Connection, pairs: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of (model, version) that the registry has."""
    if not pairs:
        return set()
    pair = tuple_(versions.c.model, versions.c.version)
    rows = connection.execute(select(versions.c.model, versions.c.version).where(pair.in_(sorted(pairs))))
    return {(row.model, row.version) for row in rows}


def add_health(
    connection: Connection, windows: Sequence[Row], shadows: Sequence[Row], latencies: Sequence[Row]
) -> None:
    """Add rows, given in the order of their keys, to those that are there."""
    _WINDOWS.run(connection, windows)
    _SHADOWS.run(connection, shadows)
    _LATENCIES.run(connection, latencies)


# --- gates ----------------------------------------------------------------------------------------------------------
def version_health(connection: Connection, scope: Scope) -> dict[str, HealthSums]:
    """Sums by profile."""
    return _health(connection, _of_version(health_windows, scope))


def control_health(connection: Connection, scope: Scope) -> dict[str, HealthSums]:
    """As `version_health`, of all other versions of the model where and when this one was heard of."""
    return _health(connection, _of_controls(health_windows, scope))


def version_latency(connection: Connection, scope: Scope) -> dict[str, Sparse]:
    """Latency buckets by profile (`shared.latency.percentile_us` reads them)."""
    return _latency(connection, [*_of_version(health_latency, scope), health_latency.c.shadow == 0])


def control_latency(connection: Connection, scope: Scope) -> dict[str, Sparse]:
    """As `version_latency`, of all other versions of the model where and when this one was heard of."""
    return _latency(connection, [*_of_controls(health_latency, scope), health_latency.c.shadow == 0])


def shadow_health(connection: Connection, scope: Scope) -> dict[str, ShadowSums]:
    """Sums of the candidate `scope.version` by profile, beside whichever version served."""
    names = tuple(ShadowSums.__dataclass_fields__)
    rows = _sums(connection, shadow_windows, names, _of_version(shadow_windows, scope))
    return {profile: ShadowSums(**sums) for profile, sums in rows.items()}


def shadow_latency(connection: Connection, scope: Scope) -> dict[str, Sparse]:
    """Latency buckets of the candidate by profile."""
    return _latency(connection, [*_of_version(health_latency, scope), health_latency.c.shadow == 1])


def _periods(table: Table, scope: Scope) -> list[ColumnElement[bool]]:
    found = [table.c.model == scope.model, table.c.period_s > scope.since_s - HEALTH_PERIOD_S]
    return found if scope.until_s is None else [*found, table.c.period_s <= scope.until_s - HEALTH_PERIOD_S]


def _of_version(table: Table, scope: Scope) -> list[ColumnElement[bool]]:
    found = [*_periods(table, scope), table.c.version == scope.version]
    return found if scope.cohort is None else [*found, table.c.cohort == scope.cohort]


def _of_controls(table: Table, scope: Scope) -> list[ColumnElement[bool]]:
    heard = select(health_windows.c.period_s, health_windows.c.profile).where(*_of_version(health_windows, scope))
    where_and_when = tuple_(table.c.period_s, table.c.profile).in_(heard)
    return [*_periods(table, scope), table.c.version != scope.version, where_and_when]


def _health(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> dict[str, HealthSums]:
    rows = _sums(connection, health_windows, tuple(HealthSums.__dataclass_fields__), conditions)
    return {profile: HealthSums(**sums) for profile, sums in rows.items()}


def _sums(
    connection: Connection, table: Table, names: Sequence[str], conditions: Sequence[ColumnElement[bool]]
) -> dict[str, dict[str, int]]:
    sums = [func.sum(table.c[name]).label(name) for name in names]
    rows = connection.execute(select(table.c.profile, *sums).where(*conditions).group_by(table.c.profile)).mappings()
    return {row["profile"]: {name: int(row[name]) for name in names} for row in rows}


def _latency(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> dict[str, Sparse]:
    table = health_latency.c
    query = select(table.profile, table.bucket, func.sum(table.count).label("total")).where(*conditions)
    found: dict[str, Sparse] = {}
    for row in connection.execute(query.group_by(table.profile, table.bucket).order_by(table.profile, table.bucket)):
        found.setdefault(row.profile, []).append((row.bucket, int(row.total)))
    return found


# --- retention ------------------------------------------------------------------------------------------------------
def prune_health(connection: Connection, before_s: float) -> int:
    """Remove the periods that began before; returns how many rows of counters went."""
    gone = 0
    for table in (health_latency, shadow_windows, health_windows):
        old = (table.c.model.in_(select(models.c.model)), table.c.period_s < before_s)
        gone += connection.execute(delete(table).where(*old)).rowcount
    return gone
