"""Versions: registered once from a bundle, never changed, withdrawn for good.

The bundle's own manifest says which version it is. The same bytes again are the same answer; other bytes under a used
number are refused. Nothing of an upload is kept unless all of it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore, BlobWriter, StoredBlob
from hub.registry.compare import Comparison, compare
from hub.registry.inspect import Inspected, inspect_bundle
from hub.registry.lineage import Ancestry, ancestry
from hub.store import assignments, blobs_index, models, registry
from hub.store.database import Database
from hub.store.page import PageRequest
from hub.store.registry import Status, VersionRow
from shared import limits
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput, Unavailable

__all__ = ["RegistryEntry", "VersionService"]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """The answer to a registration; `created` False: these bytes were registered before."""

    version: VersionRow
    created: bool


class VersionService:
    """Registers, lists, compares and withdraws versions."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._blobs = blobs

    def receive(self) -> BlobWriter:
        """Where to write an uploaded bundle; hand it to `register`, then call its `discard` in any case."""
        return self._blobs.writer(limits.MAX_BUNDLE_BYTES)

    def register(self, model: str, upload: BlobWriter, actor: str) -> RegistryEntry:
        """Validate the whole bundle and make it a version of `model`.

        Errors: `model.unknown`, `bundle.*`, `preprocess.*`, `version.wrong_model`, `version.exists`.
        """
        blob = upload.seal()
        with self._db.read() as connection:
            models.get_model(connection, model)
        found = inspect_bundle(upload.path, blob)
        if found.manifest.model != model:
            raise InvalidInput(
                "version.wrong_model",
                f"The bundle is for the model {found.manifest.model}, not {model}.",
                hint="Register it under the model that its manifest names.",
            )
        with self._db.read() as connection:
            _same_bytes(registry.find_version(connection, model, found.manifest.version), blob)
        upload.commit()
        return self._record(model, found, blob, actor)

    def _record(self, model: str, found: Inspected, blob: StoredBlob, actor: str) -> RegistryEntry:
        number = found.manifest.version
        with self._db.write() as connection:
            known = registry.find_version(connection, model, number)
            _same_bytes(known, blob)
            blobs_index.record_blob(connection, blob.sha256, blob.bytes, "bundle", self._clock.now())
            if not self._blobs.exists(blob.sha256):
                raise Unavailable(
                    "blob.collected", "The upload was removed while it was registered.", hint="Repeat.", retriable=True
                )
            if known is None:
                registry.insert_version(connection, self._row(found, blob, actor))
                detail = {"bundle_sha256": blob.sha256, "bundle_bytes": blob.bytes}
                self._audit.append(connection, actor, "version.register", f"{model}/{number}", detail)
            elif not known.available:
                self._audit.append(
                    connection, actor, "version.restore", f"{model}/{number}", {"bundle_sha256": blob.sha256}
                )
            return RegistryEntry(registry.get_version(connection, model, number), created=known is None)

    def _row(self, found: Inspected, blob: StoredBlob, actor: str) -> VersionRow:
        return VersionRow(
            model=found.manifest.model,
            version=found.manifest.version,
            status=Status.REGISTERED,
            bundle_sha256=blob.sha256,
            bundle_bytes=blob.bytes,
            manifest=found.manifest_text,
            card=found.card,
            parent_version=found.manifest.lineage.parent_version,
            created_s=self._clock.now(),
            created_by=actor,
            approved_s=None,
            available=True,
        )

    def get(self, model: str, version: int) -> VersionRow:
        """A version; error `version.unknown`."""
        with self._db.read() as connection:
            return registry.get_version(connection, model, version)

    def page(self, model: str, page: PageRequest) -> list[VersionRow]:
        """Versions, newest first; error `model.unknown`."""
        with self._db.read() as connection:
            models.get_model(connection, model)
            return registry.list_versions(connection, model, page)

    def compare(self, model: str, a: int, b: int) -> Comparison:
        """What differs from version `a` to version `b`; error `version.unknown`."""
        with self._db.read() as connection:
            rows = [registry.get_version(connection, model, number) for number in (a, b)]
            gates = [registry.latest_gate_result(connection, model, number) for number in (a, b)]
        return compare(rows[0], rows[1], gates[0], gates[1])

    def lineage(self, model: str, version: int) -> Ancestry:
        """Where a version comes from; error `version.unknown`."""
        with self._db.read() as connection:
            row = registry.get_version(connection, model, version)
            return ancestry(row, registry.parents(connection, model))

    def withdraw(self, model: str, version: int, reason: str, actor: str) -> VersionRow:
        """Never deploy this version again, and take it back from devices that do not serve it yet.

        What serves on devices stays. Errors `version.unknown`, `version.in_use`.
        """
        with self._db.write() as connection:
            row = registry.get_version(connection, model, version)
            names = [move.alias for move in models.current_aliases(connection, model) if move.version == version]
            if names:
                raise Conflict(
                    "version.in_use",
                    f"The alias {', '.join(names)} names version {version} of {model}.",
                    hint="Move the alias to another version first.",
                )
            if row.status is not Status.WITHDRAWN:
                registry.set_status(connection, row, Status.WITHDRAWN, self._clock.now())
                taken_back = assignments.withdraw_pending(connection, assignments.of_version(model, version))
                detail = {"reason": reason, "assignments_taken_back": taken_back}
                self._audit.append(connection, actor, "version.withdraw", f"{model}/{version}", detail)
            return registry.get_version(connection, model, version)


def _same_bytes(known: VersionRow | None, blob: StoredBlob) -> None:
    if known is not None and known.bundle_sha256 != blob.sha256:
        raise Conflict(
            "version.exists",
            f"Version {known.version} of {known.model} is registered with other bytes.",
            hint="A version never changes; build the bundle with the next number.",
            detail={"bundle_sha256": known.bundle_sha256},
        )
