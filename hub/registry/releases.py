"""The registry's word to those who sign: which version may be released, and that one has been approved.

Approval is not a click: it is noted when a release with enough signatures has been published, in that transaction.
"""

from __future__ import annotations

from hub.audit.log import AuditLog
from hub.store import blobs_index, registry
from hub.store.database import Connection
from hub.store.registry import Status
from shared.errors import Conflict

__all__ = ["ReleaseGuard"]

_ACTOR = "hub:releases"


class ReleaseGuard:
    """Asked and told within the caller's transaction (the seam `hub.trust.registry.ReleaseRegistry`)."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def releasable(self, connection: Connection, model: str, version: int) -> tuple[str, int]:
        """SHA-256 and bytes of a version that passed its gate; an approved one may be released again.

        Errors: `version.unknown`, `release.not_gated`, `version.collected`.
        """
        row = registry.get_version(connection, model, version)
        if row.status not in (Status.GATED, Status.APPROVED):
            raise Conflict(
                "release.not_gated",
                f"Version {version} of {model} is {row.status.value}; a release needs a passed gate.",
                hint=f"Run the gate first: `skerry versions gate {model} {version} HELD_OUT.npz`.",
                detail={"status": row.status.value},
            )
        blobs_index.require_bundle(connection, row.bundle_sha256)
        return row.bundle_sha256, row.bundle_bytes

    def approved(self, connection: Connection, model: str, version: int, at_s: float) -> None:
        """The release has been published with enough signatures.

        Errors: `version.unknown`, `version.transition` (the version has not passed its gate, or is withdrawn).
        """
        row = registry.get_version(connection, model, version)
        if row.status is not Status.APPROVED:
            registry.set_status(connection, row, Status.APPROVED, at_s)
            detail = {"bundle_sha256": row.bundle_sha256}
            self._audit.append(connection, _ACTOR, "version.approve", f"{model}/{version}", detail)
