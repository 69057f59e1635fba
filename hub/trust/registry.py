"""What trust needs of its neighbours, as seams: the registry's word on a version, the audit log, and the blobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection

__all__ = ["Audit", "Blobs", "ReleaseRegistry"]


class ReleaseRegistry(Protocol):
    """The registry, asked and told within the caller's transaction."""

    def releasable(self, connection: Connection, model: str, version: int) -> tuple[str, int]:
        """SHA-256 and bytes of the bundle of a version that passed its gate; `NotFound` or `Conflict` otherwise."""
        ...

    def approved(self, connection: Connection, model: str, version: int, at_s: float) -> None:
        """The version's release has been published with enough signatures."""
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
