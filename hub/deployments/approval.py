"""Nothing is assigned that devices would refuse: a release needs its signatures, over the bytes of the registry."""

from __future__ import annotations

from typing import Protocol

from hub.store import registry
from hub.store.database import Database
from shared.errors import Conflict, Untrusted

__all__ = ["Approvals", "check_approved"]


class Approvals(Protocol):
    """Who knows what devices would accept (`hub.trust.repository.TrustRepository`)."""

    def require_approved(self, model: str, version: int) -> tuple[str, int]:
        """SHA-256 and bytes of a release with enough signatures, else `Conflict`."""
        ...


def check_approved(db: Database, approvals: Approvals, model: str, version: int) -> None:
    """Return if devices would accept the version; `deployment.not_approved`, `deployment.digest_mismatch`."""
    with db.read() as connection:
        row = registry.get_version(connection, model, version)
    try:
        approved = approvals.require_approved(model, version)
    except Conflict as error:
        raise Conflict(
            "deployment.not_approved", error.message, hint=error.hint, detail={"cause": error.code}
        ) from error
    if approved != (row.bundle_sha256, row.bundle_bytes):
        raise Untrusted(
            "deployment.digest_mismatch",
            f"The release of {model} version {version} names other bytes than the registry.",
            hint="Do not deploy it; find out who signed what (`skerry audit`).",
        )
