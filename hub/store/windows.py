"""Windows and metrics: what was counted, the sums, and the newest window of each device. All of it set-based.

The caller holds the status rows of the devices whose windows it counts, so their marks cannot change meanwhile. Rows of
sums are shared by all devices: they are made and locked in the order of their keys, read, added to, and written back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, literal_column, select, tuple_, update

from hub.store.repeated import Repeated, Row, new_ones, replaced
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

SUM_KEY = ("model", "period_s", "version", "profile", "arm")
METRIC_KEY = ("model", "period_s", "version", "arm", "name", "kind")
_TOTALS = ("windows", "rows", "predicted", "skipped", "labelled", "errors", "unknown", "variance")


def _more_metrics(insert: Any) -> Any:
    statement = insert(app_metrics)
    new, old = statement.excluded, app_metrics.c
    sums: dict[str, Any] = {name: old[name] + new[name] for name in ("reports", "count", "total")}
    sums["least"] = case((new.least < old.least, new.least), else_=old.least)
    sums["greatest"] = case((new.greatest > old.greatest, new.greatest), else_=old.greatest)
    sums["last"] = new.last
    return statement.on_conflict_do_update(index_elements=list(METRIC_KEY), set_=sums)


def _latest(insert: Any) -> Any:
    columns = ("device_id", "model", "version", "profile", "period_s", "received_s", "window")
    values: dict[str, Any] = {name: bindparam(name, type_=window_latest.c[name].type) for name in columns}
    statement = insert(window_latest).values({**values, "found": literal_column("'[]'")})
    fresh = {name: statement.excluded[name] for name in columns[2:]}
    return statement.on_conflict_do_update(index_elements=list(columns[:2]), set_=fresh)


def _new_totals(_: Any) -> Any:
    keys = [drift_sums.c[name] == bindparam(f"k_{name}") for name in SUM_KEY]
    values: dict[str, Any] = {
        name: bindparam(name, type_=drift_sums.c[name].type) for name in (*_TOTALS, "vector", "outcomes")
    }
    return update(drift_sums).where(and_(*keys)).values(values)


_MARKS = replaced(window_marks)
_LATEST = Repeated(_latest)
_FIRST_SUMS = new_ones(drift_sums)
_SUMS = Repeated(_new_totals)
_METRICS = Repeated(_more_metrics, [column.name for column in app_metrics.c])
_HIGHEST = select(
    window_marks.c.device_id,
    window_marks.c.model,
    window_marks.c.version,
    window_marks.c.series,
    window_marks.c.window_id,
).where(
    window_marks.c.device_id.in_(bindparam("ids", expanding=True)),
    window_marks.c.model.in_(bindparam("models", expanding=True)),
)


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
    rows = connection.execute(_HIGHEST, {"ids": list(device_ids), "models": list(models)}).all()
    return {SeriesKey(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def put_marks(connection: Connection, marks: Mapping[SeriesKey, int], now: float) -> None:
    """Remember the highest ids."""
    _MARKS.run(
        connection,
        [
            {"device_id": d, "model": m, "version": v, "series": s, "window_id": number, "seen_s": now}
            for (d, m, v, s), number in sorted(marks.items())
        ],
    )


def put_latest(connection: Connection, rows: Sequence[Row]) -> None:
    """The newest window of each device and model, each pair once; what a verdict has found stays."""
    _LATEST.run(connection, rows)


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
    _FIRST_SUMS.run(connection, fresh)
    return _locked(connection, keys)


def _locked(connection: Connection, keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Row]:
    columns = [drift_sums.c[name] for name in SUM_KEY]
    query = select(drift_sums).where(tuple_(*columns).in_(keys)).order_by(*columns).with_for_update()
    return {tuple(row[name] for name in SUM_KEY): dict(row) for row in connection.execute(query).mappings()}


def write_sums(connection: Connection, rows: Sequence[Row]) -> None:
    """Write back rows that `lock_sums` gave, each with all its columns."""
    _SUMS.run(
        connection,
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
    _METRICS.run(connection, rows)


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
