"""Which blobs the database knows, and which of them are collected.

Who refers to a bundle (`require_bundle` before an assignment or an alias is written) and who collects it do so in
`Database.write`, one at a time, so that neither overlooks the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from hub.store.schema import blobs, datasets, gate_results
from shared.errors import Conflict, NotFound

__all__ = [
    "DatasetRow",
    "collected_digests",
    "dataset_of_gates",
    "get_dataset",
    "list_datasets",
    "live_digests",
    "mark_collected",
    "put_dataset",
    "record_blob",
    "require_bundle",
]

_CHUNK_COUNT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """A held-out data set. `available`: its bytes are still stored."""

    sha256: str
    bytes: int
    name: str
    rows: int
    created_s: float
    created_by: str
    available: bool


def record_blob(connection: Connection, sha256: str, size: int, kind: str, now_s: float) -> None:
    """Know a blob whose bytes have just been stored; a collected one is live again."""
    known = connection.execute(select(blobs.c.sha256).where(blobs.c.sha256 == sha256)).first()
    if known is None:
        connection.execute(insert(blobs).values(sha256=sha256, bytes=size, kind=kind, created_s=now_s))
    else:
        connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(created_s=now_s, collected_s=None))


def require_bundle(connection: Connection, sha256: str) -> None:
    """Return if the bytes of a version are stored; `Conflict` (`version.collected`) if they are not."""
    row = connection.execute(select(blobs.c.collected_s).where(blobs.c.sha256 == sha256)).one_or_none()
    if row is None or row.collected_s is not None:
        raise Conflict(
            "version.collected",
            "The bundle of this version was removed by garbage collection.",
            hint="Register the same bundle again, then repeat.",
        )


def mark_collected(connection: Connection, digests: Sequence[str], now_s: float) -> None:
    """Note that the bytes are gone; the rows stay as evidence."""
    for start in range(0, len(digests), _CHUNK_COUNT):
        chunk = digests[start : start + _CHUNK_COUNT]
        connection.execute(update(blobs).where(blobs.c.sha256.in_(chunk)).values(collected_s=now_s))


def live_digests(connection: Connection, digests: Iterable[str]) -> set[str]:
    """Those of `digests` that are known and not collected."""
    wanted = list(digests)
    live: set[str] = set()
    for start in range(0, len(wanted), _CHUNK_COUNT):
        chunk = wanted[start : start + _CHUNK_COUNT]
        query = select(blobs.c.sha256).where(blobs.c.sha256.in_(chunk), blobs.c.collected_s.is_(None))
        live.update(connection.execute(query).scalars())
    return live


def collected_digests(connection: Connection) -> list[str]:
    """Blobs whose bytes should be gone."""
    return list(connection.execute(select(blobs.c.sha256).where(blobs.c.collected_s.is_not(None))).scalars())


_DATASET = (
    datasets.c.sha256,
    blobs.c.bytes,
    datasets.c.name,
    datasets.c.rows,
    datasets.c.created_s,
    datasets.c.created_by,
    blobs.c.collected_s.is_(None).label("available"),
)


def put_dataset(connection: Connection, sha256: str, name: str, rows: int, now_s: float, by: str) -> bool:
    """Know a data set; the same bytes again keep their first name. True: it is new."""
    if connection.execute(select(datasets.c.sha256).where(datasets.c.sha256 == sha256)).first() is not None:
        return False
    connection.execute(insert(datasets).values(sha256=sha256, name=name, rows=rows, created_s=now_s, created_by=by))
    return True


def get_dataset(connection: Connection, sha256: str) -> DatasetRow:
    """A data set, or `NotFound` (`dataset.unknown`)."""
    query = select(*_DATASET).join(blobs, blobs.c.sha256 == datasets.c.sha256).where(datasets.c.sha256 == sha256)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound(
            "dataset.unknown",
            f"There is no data set {sha256[:12]}….",
            hint="Upload the held-out .npz file first; the answer names its digest.",
        )
    return DatasetRow(**row._mapping)


def dataset_of_gates(connection: Connection, model: str, version: int) -> DatasetRow | None:
    """The data set that gates of a model use: of the newest gate run of `version`, else of any version of the model.

    Only what is still stored counts.
    """
    query = (
        select(*_DATASET)
        .join(blobs, blobs.c.sha256 == datasets.c.sha256)
        .join(gate_results, gate_results.c.dataset_sha256 == datasets.c.sha256)
        .where(gate_results.c.model == model, blobs.c.collected_s.is_(None))
        .order_by((gate_results.c.version == version).desc(), gate_results.c.gate_id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else DatasetRow(**row._mapping)


def list_datasets(connection: Connection, limit: int = 500) -> list[DatasetRow]:
    """Data sets, newest first."""
    query = (
        select(*_DATASET)
        .join(blobs, blobs.c.sha256 == datasets.c.sha256)
        .order_by(datasets.c.created_s.desc(), datasets.c.sha256)
        .limit(limit)
    )
    return [DatasetRow(**row._mapping) for row in connection.execute(query)]
