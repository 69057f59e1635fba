"""Held-out data sets: uploaded once, addressed by their bytes, checked before they are kept."""

from __future__ import annotations

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore, BlobWriter
from hub.gates.dataset import describe_dataset
from hub.store import blobs_index
from hub.store.blobs_index import DatasetRow
from hub.store.database import Database
from shared import limits
from shared.clock import Clock
from shared.errors import Unavailable

__all__ = ["DatasetService"]


class DatasetService:
    """Keeps and lists data sets."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._blobs = blobs

    def receive(self) -> BlobWriter:
        """Where to write an uploaded `.npz` file; hand it to `add`, then call its `discard` in any case."""
        return self._blobs.writer(limits.MAX_HELD_OUT_BYTES)

    def add(self, upload: BlobWriter, name: str, actor: str) -> DatasetRow:
        """Keep a data set; the same bytes again, the same answer. Errors `dataset.malformed`, `dataset.too_large`."""
        blob = upload.seal()
        shape = describe_dataset(upload.path)
        upload.commit()
        now_s = self._clock.now()
        with self._db.write() as connection:
            blobs_index.record_blob(connection, blob.sha256, blob.bytes, "dataset", now_s)
            if not self._blobs.exists(blob.sha256):
                raise Unavailable(
                    "blob.collected", "The upload was removed while it was stored.", hint="Repeat.", retriable=True
                )
            if blobs_index.put_dataset(connection, blob.sha256, name or blob.sha256[:12], shape.rows, now_s, actor):
                detail = {"bytes": blob.bytes, "rows": shape.rows, "name": name}
                self._audit.append(connection, actor, "dataset.add", blob.sha256, detail)
            return blobs_index.get_dataset(connection, blob.sha256)

    def list(self) -> list[DatasetRow]:
        """The newest data sets."""
        with self._db.read() as connection:
            return blobs_index.list_datasets(connection)
