"""What triggers of training are decided by, for all models at once: a fixed number of queries, whatever the fleet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, case, func, select, tuple_

from hub.store.federated import OPEN
from hub.store.schema import (
    alerts,
    device_samples,
    devices,
    drift_results,
    federated_runs,
    federated_traffic,
    train_keys,
    versions,
)

__all__ = ["AlertFact", "RunFact", "TrafficFact", "VerdictFact", "open_alerts", "results_of", "runs_of", "samples_seen"]
__all__ += ["traffic_of", "used_keys", "verdicts_of", "waiting_versions"]

_OPEN = [state.value for state in OPEN]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFact:
    """An alert that is open or was seen."""

    alert_id: int
    model: str
    version: int
    rule: str
    severity: str
    level: str
    detail: Mapping[str, Any]


class VerdictFact(NamedTuple):
    """The newest verdict on the fleet's data of one version."""

    model: str
    version: int
    period_s: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFact:
    """A model's runs. newest: the last one. active: one that has not ended; empty: none. week: begun since a moment."""

    model: str
    newest: str
    active: str
    week: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficFact:
    """What a model's runs since a moment moved over the links of one profile."""

    model: str
    profile: str
    devices: int
    bytes_down: int
    bytes_up: int


def open_alerts(connection: Connection, models: Collection[str]) -> list[AlertFact]:
    """Alerts that are open or were seen."""
    a = alerts.c
    query = select(*(a[name] for name in AlertFact.__dataclass_fields__))
    query = query.where(a.model.in_(sorted(models)), a.state.in_(("open", "acknowledged"))).order_by(a.alert_id)
    return [AlertFact(**row) for row in connection.execute(query).mappings()]


def verdicts_of(connection: Connection, models: Collection[str]) -> list[VerdictFact]:
    """The newest verdict on the fleet of each version."""
    r = drift_results.c
    mine = (r.model.in_(sorted(models)), r.level == "fleet", r.arm == "")
    newest = select(r.model, r.version, func.max(r.period_s).label("at")).where(*mine)
    n = (grouped := newest.group_by(r.model, r.version).subquery()).c
    same = and_(r.model == n.model, r.version == n.version, r.period_s == n.at)
    query = select(r.model, r.version, r.period_s, r.rows).select_from(drift_results.join(grouped, same)).where(*mine)
    return [VerdictFact(*row) for row in connection.execute(query.order_by(r.model, r.version))]


def results_of(connection: Connection, verdicts: Iterable[VerdictFact]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """What these verdicts say, by model and version."""
    r = drift_results.c
    wanted = [(one.model, one.version, one.period_s) for one in verdicts]
    if not wanted:
        return {}
    query = select(r.model, r.version, r.result).where(
        tuple_(r.model, r.version, r.period_s).in_(wanted), r.level == "fleet", r.arm == ""
    )
    return {(row.model, row.version): row.result for row in connection.execute(query)}


def runs_of(connection: Connection, models: Collection[str], since_s: float) -> dict[str, RunFact]:
    """By model, its runs; those with none are left out."""
    f = federated_runs.c
    sums = (
        select(
            f.model,
            func.max(f.run_no).label("run_no"),
            func.max(case((f.state.in_(_OPEN), f.run_id), else_="")).label("active"),
            func.sum(case((f.created_s > since_s, 1), else_=0)).label("week"),
        )
        .where(f.model.in_(sorted(models)))
        .group_by(f.model)
        .subquery()
    )
    s = sums.c
    query = select(s.model, f.run_id.label("newest"), s.active, s.week).join(federated_runs, f.run_no == s.run_no)
    return {row["model"]: RunFact(**{**row, "week": int(row["week"])}) for row in connection.execute(query).mappings()}


def waiting_versions(connection: Connection, models: Collection[str]) -> dict[str, int]:
    """By model, the newest version that passed its gate, is newer than any approved one, and lacks signatures."""
    v = versions.c
    gated = func.max(case((v.status == "gated", v.version), else_=0))
    approved = func.max(case((v.status == "approved", v.version), else_=0))
    query = select(v.model, gated, approved).where(v.model.in_(sorted(models))).group_by(v.model)
    return {row[0]: int(row[1]) for row in connection.execute(query) if row[1] > row[2]}


def samples_seen(connection: Connection, models: Collection[str]) -> dict[str, int]:
    """By model, how many samples its active devices have ever seen."""
    s = device_samples.c
    query = (
        select(s.model, func.sum(s.seen))
        .join(devices, devices.c.device_id == s.device_id)
        .where(s.model.in_(sorted(models)), devices.c.status == "active")
        .group_by(s.model)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}


def traffic_of(connection: Connection, models: Collection[str], since_s: float) -> list[TrafficFact]:
    """What runs that were made since a moment moved, by model and profile."""
    t, f = federated_traffic.c, federated_runs.c
    sums = (func.sum(t[name]).label(name) for name in ("devices", "bytes_down", "bytes_up"))
    query = (
        select(f.model, t.profile, *sums)
        .join(federated_runs, f.run_no == t.run_no)
        .where(f.model.in_(sorted(models)), f.created_s > since_s)
        .group_by(f.model, t.profile)
        .order_by(f.model, t.profile)
    )
    whole = ("devices", "bytes_down", "bytes_up")
    rows = connection.execute(query).mappings()
    return [TrafficFact(**{**row, **{name: int(row[name]) for name in whole}}) for row in rows]


def used_keys(connection: Connection, keys: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """Of these keys by model, those that have fired."""
    wanted = [(model, key) for model in sorted(keys) for key in sorted(keys[model])]
    found: dict[str, set[str]] = {model: set() for model in keys}
    if wanted:
        query = select(train_keys.c.model, train_keys.c.key)
        for model, key in connection.execute(query.where(tuple_(train_keys.c.model, train_keys.c.key).in_(wanted))):
            found[model].add(key)
    return {model: frozenset(names) for model, names in found.items()}
