"""What the hub knows of each version to judge its windows: reference and calibration, read once out of the bundle.

Only versions that the registry knows are watched. The bytes are read at the place that the archive's layout gives, and
held against the manifest's digest. A bundle whose bytes are gone or damaged is not watched (`window.unwatched`); that
is looked at again after `_RETRY_S`, so a restored backup is found.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hub.blobs.store import BlobStore
from hub.monitoring.sums import Shape, shape_of
from hub.store.database import Connection
from hub.store.windows import BundleRow, bundles_of
from shared import limits
from shared.bundle.archive import parse_manifest
from shared.bundle.layout import spans
from shared.clock import Clock
from shared.drift.reference import Calibration, Reference, parse_calibration, parse_reference
from shared.errors import SkerryError, StorageFailure

__all__ = ["Pair", "References", "Watched"]

_LOG = logging.getLogger(__name__)
_KEPT_COUNT = 256
_RETRY_S = 300.0
Pair = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Watched:
    """A version. sha256: of its reference, as windows name it; None: it has none."""

    reference: Reference | None
    sha256: str | None
    calibration: Calibration | None
    shape: Shape


class References:
    """A bounded cache over the registry and the blobs; used by several threads."""

    def __init__(self, blobs: BlobStore, clock: Clock) -> None:
        self._blobs = blobs
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[Pair, Watched] = OrderedDict()
        self._failed: dict[Pair, float] = {}

    def get(self, connection: Connection, pairs: Collection[Pair]) -> Mapping[Pair, Watched]:
        """Those of (model, version) that can be watched; one query for all that are not cached."""
        with self._lock:
            found = {pair: self._kept[pair] for pair in pairs if pair in self._kept}
            for pair in found:
                self._kept.move_to_end(pair)
            now = self._clock.monotonic()
            wanted = [pair for pair in pairs if pair not in found and self._failed.get(pair, 0.0) <= now]
        if not wanted:
            return found
        for row in bundles_of(connection, wanted):
            pair = (row.model, row.version)
            try:
                watched = self._load(row)
            except (SkerryError, OSError) as error:
                _LOG.error("the reference of %s/%d cannot be read: %s", row.model, row.version, error)
                with self._lock:
                    self._failed[pair] = now + _RETRY_S
                continue
            found[pair] = watched
            self._keep(pair, watched)
        return found

    def _keep(self, pair: Pair, watched: Watched) -> None:
        with self._lock:
            self._failed.pop(pair, None)
            self._kept[pair] = watched
            while len(self._kept) > _KEPT_COUNT:
                self._kept.popitem(last=False)

    def _load(self, row: BundleRow) -> Watched:
        text = row.manifest.encode()
        if not text:
            return Watched(None, None, None, shape_of(None))
        manifest = parse_manifest(text)
        if manifest.reference is None:
            return Watched(None, None, None, shape_of(None))
        digest, data = self._file(row, len(text), manifest.reference)
        reference = parse_reference(data)
        calibration = None
        if manifest.calibration is not None:
            calibration = parse_calibration(self._file(row, len(text), manifest.calibration)[1])
        return Watched(reference, digest, calibration, shape_of(reference))

    def _file(self, row: BundleRow, manifest_bytes: int, path: str) -> tuple[str, bytes]:
        manifest = parse_manifest(row.manifest.encode())
        for span in spans(manifest_bytes, manifest.files):
            entry = span.entry
            if entry is None or entry.path != path:
                continue
            if entry.bytes > max(limits.MAX_REFERENCE_BYTES, limits.MAX_CALIBRATION_BYTES):
                break
            chunks = self._blobs.open_range(row.bundle_sha256, span.content, span.content + entry.bytes - 1)
            data = b"".join(chunks)
            if hashlib.sha256(data).hexdigest() == entry.sha256:
                return entry.sha256, data
            break
        raise StorageFailure(
            "blob.damaged", f"The bundle of {row.model}/{row.version} has another {path} than its manifest says."
        )
