"""Windows and metrics: what was counted, the sums, and the newest window of each device. All of it set-based.

The caller holds the status rows of the devices whose windows it counts, so their marks cannot change meanwhile. Rows of
sums are shared by all devices: they are made and locked in the order of their keys, read, added to, and written back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, case, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.schema import app_metrics, drift_results, drift_sums, versions, window_latest, window_marks
from shared.drift.once import SeriesKey

__all__ = [
    "BundleRow",
    "METRIC_KEY",
    "SUM_KEY",
    "add_metrics",
    "bundles_of",
    "known_metrics",
    "lock_sums",
    "marks_of",
    "prune_windows",
    "put_latest",
    "put_marks",
    "write_sums",
]

Row = Mapping[str, Any]
SUM_KEY = ("model", "period_s", "version", "profile", "arm")
METRIC_KEY = ("model", "period_s", "version", "arm", "name", "kind")
_TOTALS = ("windows", "rows", "predicted", "skipped", "labelled", "errors", "unknown", "variance")


def _insert(connection: Connection, table: Table) -> Any:
    # The same methods, but no common type in SQLAlchemy.
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


@dataclass(frozen=True, slots=True)
class BundleRow:
    """Where the bytes of a version are, and its manifest as canonical JSON."""

    model: str
    version: int
    bundle_sha256: str
    manifest: str


def bundles_of(connection: Connection, pairs: Collection[tuple[str, int]]) -> list[BundleRow]:
    """Those of (model, version) that the registry has."""
    table = versions.c
    query = select(table.model, table.version, table.bundle_sha256, table.manifest)
    rows = connection.execute(query.where(tuple_(table.model, table.version).in_(sorted(pairs))))
    return [BundleRow(*row) for row in rows]


def marks_of(connection: Connection, device_ids: Collection[str], models: Collection[str]) -> dict[SeriesKey, int]:
    """The highest id that was counted, by (device, model, version, series)."""
    table = window_marks.c
    query = select(table.device_id, table.model, table.version, table.series, table.window_id)
    rows = connection.execute(query.where(table.device_id.in_(device_ids), table.model.in_(models)))
    return {SeriesKey(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def put_marks(connection: Connection, marks: Mapping[SeriesKey, int], now: float) -> None:
    """Remember the highest ids."""
    rows = [
        {"device_id": d, "model": m, "version": v, "series": s, "window_id": number, "seen_s": now}
        for (d, m, v, s), number in sorted(marks.items())
    ]
    _upsert(connection, window_marks, rows, ("window_id", "seen_s"))


def put_latest(connection: Connection, rows: Sequence[Row]) -> None:
    """The newest window of each device and model; each pair once."""
    columns = ("version", "profile", "period_s", "received_s", "window")
    _upsert(connection, window_latest, [{**row, "found": []} for row in rows], columns)


def _upsert(connection: Connection, table: Table, rows: Sequence[Row], columns: Iterable[str]) -> None:
    if not rows:
        return
    statement = _insert(connection, table)
    keys = [column.name for column in table.primary_key]
    values = {name: statement.excluded[name] for name in columns}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values), rows)


# --- sums -----------------------------------------------------------------------------------------------------------
def lock_sums(
    connection: Connection, keys: Sequence[tuple[Any, ...]], empty: Mapping[tuple[Any, ...], int]
) -> dict[tuple[Any, ...], Row]:
    """The locked rows of `keys` (ascending); those that are not there are made, with vectors of `empty` bytes."""
    found = _locked(connection, keys)
    missing = [key for key in keys if key not in found]
    if not missing:
        return found
    fresh = [
        {
            **dict(zip(SUM_KEY, key, strict=True)),
            **dict.fromkeys(_TOTALS, 0),
            "vector": bytes(empty[key]),
            "outcomes": b"",
        }
        for key in missing
    ]
    connection.execute(_insert(connection, drift_sums).on_conflict_do_nothing(), fresh)
    return _locked(connection, keys)


def _locked(connection: Connection, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
    columns = [drift_sums.c[name] for name in SUM_KEY]
    query = select(drift_sums).where(tuple_(*columns).in_(keys)).order_by(*columns).with_for_update()
    return {tuple(row[name] for name in SUM_KEY): dict(row) for row in connection.execute(query).mappings()}


def write_sums(connection: Connection, rows: Sequence[Row]) -> None:
    """Write back rows that `lock_sums` gave, each with all its columns."""
    if not rows:
        return
    keys = [drift_sums.c[name] == bindparam(f"k_{name}") for name in SUM_KEY]
    values: dict[str, Any] = {name: bindparam(name) for name in (*_TOTALS, "vector", "outcomes")}
    statement = update(drift_sums).where(and_(*keys)).values(values)
    connection.execute(
        statement,
        [{(f"k_{name}" if name in SUM_KEY else name): value for name, value in row.items()} for row in rows],
    )


# --- metrics of applications ----------------------------------------------------------------------------------------
def known_metrics(connection: Connection, period_s: int, limit: int) -> set[tuple[Any, ...]]:
    """The keys of a period's metrics, at most `limit`."""
    columns = [app_metrics.c[name] for name in METRIC_KEY]
    query = select(*columns).where(app_metrics.c.period_s == period_s).limit(limit)
    return {tuple(row) for row in connection.execute(query)}


def add_metrics(connection: Connection, rows: Sequence[Row]) -> None:
    """Add rows, given in the order of their keys, to those that are there."""
    if not rows:
        return
    statement = _insert(connection, app_metrics)
    new, old = statement.excluded, app_metrics.c
    sums: dict[str, Any] = {name: old[name] + new[name] for name in ("reports", "count", "total")}
    sums["least"] = case((new.least < old.least, new.least), else_=old.least)
    sums["greatest"] = case((new.greatest > old.greatest, new.greatest), else_=old.greatest)
    sums["last"] = new.last
    connection.execute(statement.on_conflict_do_update(index_elements=list(METRIC_KEY), set_=sums), rows)


# --- retention ------------------------------------------------------------------------------------------------------
def prune_windows(connection: Connection, before_s: float, marks_before_s: float) -> int:
    """Remove periods that began before, and marks that nobody has touched since `marks_before_s`."""
    gone = 0
    for table in (drift_sums, app_metrics, drift_results):
        gone += connection.execute(delete(table).where(table.c.period_s < before_s)).rowcount
    gone += connection.execute(delete(window_latest).where(window_latest.c.period_s < before_s)).rowcount
    newest = select(func.max(window_marks.c.seen_s)).scalar_subquery()
    old = and_(window_marks.c.seen_s < marks_before_s, window_marks.c.seen_s < newest)
    return gone + connection.execute(delete(window_marks).where(old)).rowcount
