"""What trust needs of its neighbours, as seams: the registry's word on a version, the audit log, and the blobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hub.store.database import Connection

__all__ = ["Audit", "Blobs", "GatedVersion", "PendingAssignments", "ReleaseRegistry"]


class GatedVersion(Protocol):
    """The bundle of a version that may be released (`hub.store.registry.VersionRow`)."""

    @property
    def bundle_sha256(self) -> str:
        """SHA-256 in hex."""
        ...

    @property
    def bundle_bytes(self) -> int:
        """Length in bytes."""
        ...


class ReleaseRegistry(Protocol):
    """The registry (`hub.registry.versions.VersionService`)."""

    def require_gated(self, model: str, version: int) -> GatedVersion:
        """A version that passed its gate; `NotFound` or `Conflict` otherwise."""
        ...

    def mark_approved(self, connection: Connection, model: str, version: int, actor: str) -> None:
        """The version's release is published with enough signatures, in the caller's transaction."""
        ...

    def mark_revoked(self, connection: Connection, model: str, version: int, actor: str) -> None:
        """The version's approval was taken back with enough signatures, in the caller's transaction."""
        ...


class PendingAssignments(Protocol):
    """Assignments that devices have not taken up (`hub.deployments.assignments.AssignmentService`)."""

    def renew_pending(self, connection: Connection, now_s: float) -> int:
        """Have them signed again, in the caller's transaction, because the old key's signatures no longer count."""
        ...


class Audit(Protocol):
    """The audit log (`hub.audit.log.AuditLog`)."""

    def append(
        self, connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> object:
        """Add an entry within the caller's transaction."""
        ...


class Blobs(Protocol):
    """The part of the blob store that an export reads (`hub.blobs.store.BlobStore`)."""

    def local_path(self, sha256: str) -> Path:
        """A local file with the blob's bytes; error `blob.missing`."""
        ...
