"""Garbage collection of bundles, data sets and deltas that nothing can still need; their rows stay as evidence.

Files are removed inside the transaction that says so: who registers the same bytes meanwhile waits for its end, finds
them gone and is told to repeat. After a cut in between, the next run finishes.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore
from hub.store import blobs_index, deltas, garbage
from hub.store.database import Connection, Database
from hub.store.garbage import Collectable, Retention
from shared.clock import Clock

__all__ = ["Collected", "GarbageCollector"]

_UNFINISHED_S = 3600.0
_SHOWN_COUNT = 100
_AT_ONCE_COUNT = 5000  # what is more waits for the next run


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a run took, or would take (`dry_run`). `strays`: files that no row knows; `unfinished`: cut uploads."""

    dry_run: bool
    bundles: list[Collectable]
    datasets: list[Collectable]
    deltas: list[Collectable]
    bytes: int
    strays: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What may go. A delta without a digest is a row only: it was never made."""

    bundles: list[Collectable]
    datasets: list[Collectable]
    deltas: list[Collectable]

    @property
    def all(self) -> list[Collectable]:
        return [*self.bundles, *self.datasets, *self.deltas]


class GarbageCollector:
    """Removes what nothing can still need. `retention` says what stays although nothing points to it."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore, retention: Retention) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._blobs = blobs
        self._retention = retention

    def run(self, actor: str, *, dry_run: bool) -> Collected:
        """Collect, or only say what would be collected."""
        if dry_run:
            with self._db.read() as connection:
                return _summary(self._candidates(connection), dry_run=True, strays=0, unfinished=0)
        unfinished = self._blobs.sweep(_UNFINISHED_S)
        with self._db.write() as connection:
            found = self._candidates(connection)
            self._take(connection, found)
            strays = self._remove_strays(connection)
            out = _summary(found, dry_run=False, strays=strays, unfinished=unfinished)
            if any(item.sha256 for item in found.all) or strays:
                self._audit.append(connection, actor, "gc.run", "blobs", _detail(out))
        return out

    def _candidates(self, connection: Connection) -> _Candidates:
        now_s = self._clock.now()
        bundles = garbage.collectable_bundles(connection, self._retention, now_s)[:_AT_ONCE_COUNT]
        leaving = [item.sha256 for item in bundles]
        datasets = garbage.collectable_datasets(connection, self._retention, now_s, leaving)[:_AT_ONCE_COUNT]
        between = deltas.collectable_deltas(connection, self._retention, now_s, leaving)[:_AT_ONCE_COUNT]
        return _Candidates(bundles, datasets, between)

    def _take(self, connection: Connection, found: _Candidates) -> None:
        gone = [item.sha256 for item in found.all if item.sha256]
        blobs_index.mark_collected(connection, gone, self._clock.now())
        deltas.forget(connection, found.deltas)
        for sha256 in gone:
            self._blobs.remove(sha256)

    def _remove_strays(self, connection: Connection) -> int:
        old = list(self._blobs.older_than(_UNFINISHED_S))
        strays = sorted(set(old) - blobs_index.live_digests(connection, old))
        for sha256 in strays:
            self._blobs.remove(sha256)
        return len(strays)


def _summary(found: _Candidates, *, dry_run: bool, strays: int, unfinished: int) -> Collected:
    return Collected(
        dry_run=dry_run,
        bundles=found.bundles,
        datasets=found.datasets,
        deltas=[item for item in found.deltas if item.sha256],
        bytes=sum(item.bytes for item in found.all),
        strays=strays,
        unfinished=unfinished,
    )


def _detail(out: Collected) -> dict[str, object]:
    names = [f"{item.model}/{item.version}" for item in out.bundles]
    return {
        "bundles": len(out.bundles),
        "datasets": len(out.datasets),
        "deltas": len(out.deltas),
        "bytes": out.bytes,
        "strays": out.strays,
        "names": names[:_SHOWN_COUNT],
    }
