"""Sums and verdicts as the evaluation, the gates and people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.page import PageRequest, after
from hub.store.schema import (
    app_metrics,
    device_models,
    device_status,
    devices,
    drift_results,
    drift_sums,
    window_latest,
)

__all__ = [
    "Pending",
    "ResultRow",
    "SumRow",
    "latest_results",
    "latest_windows",
    "list_metrics",
    "list_results",
    "memory_of",
    "pending_periods",
    "put_result",
    "set_found",
    "silent_devices",
    "sums_of",
    "sums_since",
]


class Pending(NamedTuple):
    """A closed period of a version that was not judged yet."""

    period_s: int
    model: str
    version: int
    arm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SumRow:
    """A row of sums, with its bytes as they are."""

    model: str
    period_s: int
    version: int
    profile: str
    arm: str
    windows: int
    rows: int
    predicted: int
    skipped: int
    labelled: int
    errors: int
    unknown: int
    variance: float
    vector: bytes
    outcomes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """A verdict. result: what is shown; state: what the next one begins with."""

    model: str
    period_s: int
    version: int
    arm: str
    level: str
    severity: int
    rows: int
    result: Mapping[str, Any]
    state: bytes = b""


def pending_periods(connection: Connection, began_before_s: float, limit: int) -> list[Pending]:
    """Periods that began before, oldest first."""
    s, r = drift_sums.c, drift_results.c
    same = and_(
        r.model == s.model, r.period_s == s.period_s, r.version == s.version, r.arm == s.arm, r.level == "fleet"
    )
    query = (
        select(s.period_s, s.model, s.version, s.arm)
        .distinct()
        .select_from(drift_sums.outerjoin(drift_results, same))
        .where(s.period_s < began_before_s, r.model.is_(None))
        .order_by(s.period_s, s.model, s.version, s.arm)
        .limit(limit)
    )
    return [Pending(*row) for row in connection.execute(query)]


def sums_of(connection: Connection, pending: Pending) -> list[SumRow]:
    """The sums of a period by profile."""
    s = drift_sums.c
    where = (
        s.model == pending.model,
        s.period_s == pending.period_s,
        s.version == pending.version,
        s.arm == pending.arm,
    )
    return [
        SumRow(**row) for row in connection.execute(select(drift_sums).where(*where).order_by(s.profile)).mappings()
    ]


def sums_since(connection: Connection, model: str, version: int, since_s: float) -> list[SumRow]:
    """The sums of what serves (no arm) in the periods that began at `since_s` or later."""
    s = drift_sums.c
    query = select(drift_sums).where(s.model == model, s.version == version, s.period_s >= since_s, s.arm == "")
    return [SumRow(**row) for row in connection.execute(query.order_by(s.period_s, s.profile)).mappings()]


def memory_of(connection: Connection, pending: Pending) -> dict[str, bytes]:
    """By level, the state that the newest verdict before this period left."""
    r = drift_results.c
    mine = (r.model == pending.model, r.version == pending.version, r.arm == pending.arm)
    newest = (
        select(r.level, func.max(r.period_s).label("at"))
        .where(*mine, r.period_s < pending.period_s)
        .group_by(r.level)
        .subquery()
    )
    query = select(r.level, r.state).join(newest, and_(r.level == newest.c.level, r.period_s == newest.c.at))
    return {row.level: bytes(row.state) for row in connection.execute(query.where(*mine))}


def put_result(connection: Connection, rows: Sequence[ResultRow]) -> None:
    """Keep verdicts; one that is there already stays."""
    # The same method, but no common type in SQLAlchemy.
    make: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    names = ResultRow.__dataclass_fields__
    connection.execute(
        make(drift_results).on_conflict_do_nothing(), [{name: getattr(row, name) for name in names} for row in rows]
    )


def latest_windows(connection: Connection, pending: Pending) -> list[Any]:
    """(device_id, profile, window, found) of the devices whose newest window came in this period or after it."""
    w = window_latest.c
    query = select(w.device_id, w.profile, w.window, w.found).where(
        w.model == pending.model, w.version == pending.version, w.period_s >= pending.period_s
    )
    return list(connection.execute(query.order_by(w.device_id)))


def silent_devices(connection: Connection, pending: Pending, period_s: int, limit: int) -> list[tuple[str, str]]:
    """(device, profile) of active devices that serve the version and were heard in this period, but whose newest window
    of it came two periods ago or more."""
    w, d, s, m = window_latest.c, devices.c, device_status.c, device_models.c
    query = (
        select(w.device_id, d.profile)
        .join(devices, d.device_id == w.device_id)
        .join(device_status, s.device_id == w.device_id)
        .join(device_models, and_(m.device_id == w.device_id, m.model == w.model, m.version == w.version))
        .where(
            w.model == pending.model,
            w.version == pending.version,
            w.period_s <= pending.period_s - 2 * period_s,
            d.status == "active",
            s.last_seen_s >= pending.period_s + period_s,
        )
        .order_by(w.device_id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def set_found(connection: Connection, model: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Remember what was found of devices (JSON values)."""
    if not found:
        return
    w = window_latest.c
    statement = update(window_latest).where(w.model == model, w.device_id == bindparam("of_device"))
    rows = [{"of_device": d, "found": dict(what)} for d, what in sorted(found.items())]
    connection.execute(statement.values(found=bindparam("found")), rows)


def latest_results(connection: Connection, model: str | None = None, version: int | None = None) -> list[ResultRow]:
    """The newest verdict of each version, level and arm, of one model or of all."""
    r = drift_results.c
    mine = [] if model is None else [r.model == model]
    mine += [] if version is None else [r.version == version]
    newest = (
        select(r.model, r.version, r.level, r.arm, func.max(r.period_s).label("at"))
        .where(*mine)
        .group_by(r.model, r.version, r.level, r.arm)
        .subquery()
    )
    n = newest.c
    same = and_(r.model == n.model, r.version == n.version, r.level == n.level, r.arm == n.arm, r.period_s == n.at)
    query = select(drift_results).join(newest, same).where(*mine)
    query = query.order_by(r.model, r.version.desc(), r.arm, r.level)
    return [_result(row) for row in connection.execute(query).mappings()]


def list_results(connection: Connection, model: str, version: int, level: str, page: PageRequest) -> list[ResultRow]:
    """The verdicts of one level, newest first."""
    r = drift_results.c
    where = (r.model == model, r.version == version, r.level == level, r.arm == "")
    query = select(drift_results).where(*where, *after([r.period_s], page, descending=True))
    rows = connection.execute(query.order_by(r.period_s.desc()).limit(page.fetch)).mappings()
    return [_result(row) for row in rows]


def _result(row: Any) -> ResultRow:
    return ResultRow(**{**row, "state": bytes(row["state"])})


def list_metrics(connection: Connection, model: str, since_s: float) -> list[dict[str, Any]]:
    """Metrics of applications, added up since a moment by version, arm, name and kind."""
    m = app_metrics.c
    query = (
        select(
            m.version,
            m.arm,
            m.name,
            m.kind,
            func.sum(m.count).label("count"),
            func.sum(m.total).label("total"),
            func.min(m.least).label("least"),
            func.max(m.greatest).label("greatest"),
        )
        .where(m.model == model, m.period_s >= since_s)
        .group_by(m.version, m.arm, m.name, m.kind)
        .order_by(m.name, m.version, m.arm)
    )
    return [{**row, "count": int(row["count"])} for row in connection.execute(query).mappings()]
