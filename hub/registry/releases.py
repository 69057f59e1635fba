"""The registry's word to those who sign: which version may be released, and that one has been approved or revoked.

Neither is a click: it is noted when metadata with enough signatures is published, in that transaction.
"""

from __future__ import annotations

from hub.audit.log import AuditLog
from hub.store import assignments, registry
from hub.store.database import Connection, Database
from hub.store.registry import Status, VersionRow
from shared.clock import Clock
from shared.errors import Conflict

__all__ = ["ReleaseGuard"]


class ReleaseGuard:
    """What the trust repository asks and tells (the seam `hub.trust.registry.ReleaseRegistry`)."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit

    def require_gated(self, model: str, version: int) -> VersionRow:
        """A version that passed its gate and whose bundle is here; an approved one may be released again.

        Errors: `version.unknown`, `release.not_gated`, `version.collected`.
        """
        with self._db.read() as connection:
            row = registry.get_version(connection, model, version)
        if row.status not in (Status.GATED, Status.APPROVED):
            raise Conflict(
                "release.not_gated",
                f"Version {version} of {model} is {row.status.value}; a release needs a passed gate.",
                hint=f"Run the gate first: `skerry versions gate {model} {version} HELD_OUT.npz`.",
                detail={"status": row.status.value},
            )
        if not row.available:
            raise Conflict("version.collected", "The bundle of this version is gone.", hint="Register it again.")
        return row

    def mark_approved(self, connection: Connection, model: str, version: int, actor: str) -> None:
        """Note within the caller's transaction that the release is published with enough signatures.

        Errors: `version.unknown`, `version.transition` (the version has not passed its gate, or is withdrawn).
        """
        row = registry.get_version(connection, model, version)
        if row.status is not Status.APPROVED:
            registry.set_status(connection, row, Status.APPROVED, self._clock.now())
            detail = {"bundle_sha256": row.bundle_sha256}
            self._audit.append(connection, actor, "version.approve", f"{model}/{version}", detail)

    def mark_revoked(self, connection: Connection, model: str, version: int, actor: str) -> None:
        """Note within the caller's transaction that the approval was taken back: it is never deployed again.

        Devices that do not serve it yet lose the assignment; those that do keep it until they get another.
        """
        row = registry.get_version(connection, model, version)
        registry.set_status(connection, row, Status.WITHDRAWN, self._clock.now())
        taken_back = assignments.withdraw_pending(connection, assignments.of_version(model, version))
        detail = {"bundle_sha256": row.bundle_sha256, "assignments_taken_back": taken_back}
        self._audit.append(connection, actor, "version.revoke", f"{model}/{version}", detail)
