"""Deltas as devices get them: offered when ready, made once however many ask, never needed.

A device may have the delta between two bundles only if it may have both, because it says something about both. What is
worth nothing is remembered as such. A delta carries no trust: the device holds its result to the signed release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from hub.blobs.store import BlobStore, StoredBlob
from hub.deltas.maker import DeltaMaker
from hub.store import assignments, blobs_index
from hub.store import deltas as store
from hub.store.database import Connection, Database
from hub.store.deltas import DeltaRow, DeltaState
from shared import limits
from shared.clock import Clock
from shared.errors import NotFound, SkerryError, Unavailable
from shared.wire.delta import DeltaOffer

__all__ = ["DeltaService"]

_LOG = logging.getLogger("skerry.hub.deltas")
_ATTEMPTS = 3
_MARGIN_S = 60.0
_BLOCK = 1 << 18


class DeltaService:
    """Offers and makes deltas. `wake` is called after one was asked for that is still to be made."""

    def __init__(self, db: Database, clock: Clock, blobs: BlobStore, maker: DeltaMaker) -> None:
        self._db = db
        self._clock = clock
        self._blobs = blobs
        self._maker = maker
        self._wake: Callable[[], None] = lambda: None

    def on_wanted(self, wake: Callable[[], None]) -> None:
        """Call `wake` when there is something to make; from any thread."""
        self._wake = wake

    def offer(self, device_id: str, to_sha256: str, from_sha256: Sequence[str]) -> DeltaOffer | None:
        """The smallest delta to a bundle from any of these; None: it is still being made. Error `delta.none`."""
        sources = list(dict.fromkeys(from_sha256))[: limits.MAX_DELTA_SOURCES_COUNT]
        with self._db.read() as connection:
            held = self._held(connection, device_id, to_sha256, sources)
            rows = store.find(connection, to_sha256, held)
        ready = [row for row in rows if row.state == DeltaState.READY]
        if ready:
            return _offered(min(ready, key=lambda row: row.bytes or 0))
        if not rows and held:
            self._want(to_sha256, held[0])
            return None
        if any(row.state != DeltaState.NONE for row in rows):
            return None
        raise _none()

    def open(self, device_id: str, to_sha256: str, from_sha256: str) -> str:
        """The digest of the blob with a delta that is ready; error `delta.none`."""
        with self._db.read() as connection:
            held = self._held(connection, device_id, to_sha256, [from_sha256])
            rows = store.find(connection, to_sha256, held)
        for row in rows:
            if row.state == DeltaState.READY and row.sha256 is not None:
                return row.sha256
        raise _none()

    def _held(self, connection: Connection, device_id: str, to_sha256: str, sources: Sequence[str]) -> list[str]:
        """Those of `sources` that the device may have, if it may have the target."""
        if not assignments.is_entitled(connection, device_id, to_sha256):
            raise _none()
        return [one for one in sources if one != to_sha256 and assignments.is_entitled(connection, device_id, one)]

    def _want(self, to_sha256: str, from_sha256: str) -> None:
        with self._db.write() as connection:
            model = store.pair_model(connection, to_sha256, from_sha256)
            if model is None:
                raise _none()
            store.want_pair(connection, model, to_sha256, from_sha256, self._clock.now())
        self._wake()

    def make_next(self) -> bool:
        """Make the delta that has been wanted for longest; whether there was one."""
        now_s = self._clock.now()
        with self._db.write() as connection:
            row = store.claim(connection, now_s, now_s + 2 * self._maker.timeout_s + _MARGIN_S)
        if row is None:
            return False
        try:
            self._make(row)
        except SkerryError as error:
            self._failed(row, error)
        return True

    def stop(self) -> None:
        """End what is being made; the next hub makes it."""
        self._maker.stop()

    def _make(self, row: DeltaRow) -> None:
        old, new = self._blobs.local_path(row.from_sha256), self._blobs.local_path(row.to_sha256)
        with self._maker.make(old, new, row.from_sha256, row.to_sha256) as file:
            blob = self._stored(file)
        with self._db.write() as connection:
            blobs_index.record_blob(connection, blob.sha256, blob.bytes, "delta", self._clock.now())
            if not self._blobs.exists(blob.sha256):
                raise Unavailable("blob.collected", "The delta was removed while it was recorded.", retriable=True)
            store.set_ready(connection, row, blob.sha256, blob.bytes, self._clock.now())

    def _stored(self, file: Path) -> StoredBlob:
        writer = self._blobs.writer(limits.MAX_BUNDLE_BYTES)
        try:
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    writer.write(block)
            return writer.commit()
        finally:
            writer.discard()

    def _failed(self, row: DeltaRow, error: SkerryError) -> None:
        again = error.retriable and row.attempts + 1 < _ATTEMPTS
        if error.code != "delta.not_worth":
            _LOG.warning("the delta from %.12s to %.12s was not made: %s", row.from_sha256, row.to_sha256, error)
        with self._db.write() as connection:
            if error.code == "delta.stopped":
                store.put_back(connection, row)
            elif again:
                store.retry(connection, row)
            else:
                store.set_none(connection, row, error.code, self._clock.now())


def _offered(row: DeltaRow) -> DeltaOffer:
    return DeltaOffer(
        from_sha256=row.from_sha256, to_sha256=row.to_sha256, sha256=row.sha256 or "", bytes=row.bytes or 0
    )


def _none() -> NotFound:
    return NotFound("delta.none", "There is no delta for this device.", hint="Fetch the whole bundle.")
