"""Assignments: what a device should have, apart from why and when somebody decided so.

A deployment assigns all its devices at once; whatever assigns in steps calls `assign` once a step, within its own
transaction. A newer assignment replaces the older one of the same model, so nothing that is stuck blocks what follows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from hub.store import assignments as store
from hub.store import blobs_index, deltas, models, registry
from hub.store.assignments import LIVE, Release, Terms
from hub.store.database import Connection, Database
from hub.store.device_filter import Condition, device_ids
from hub.store.registry import Status
from shared.clock import Clock
from shared.errors import Conflict

__all__ = ["AssignmentService"]

_CHUNK_COUNT = 1000


class AssignmentService:
    """Assigns, renews and takes back. `lifetime_s`: how long after its issue an install may start."""

    def __init__(self, db: Database, clock: Clock, lifetime_s: float) -> None:
        self._db = db
        self._clock = clock
        self._lifetime_s = lifetime_s

    def assign(
        self,
        connection: Connection,
        selection: Condition,
        model: str,
        version: int,
        deployment_id: str,
        terms: Terms = LIVE,
    ) -> int:
        """Give an approved version to the devices of `selection` (a condition on `devices`); returns how many.

        Which devices can take it is the caller's question. Errors: `version.unknown`, `deployment.withdrawn`,
        `deployment.not_approved`, `version.collected`.
        """
        return self._assign(connection, [selection], self.release(connection, model, version), deployment_id, terms)

    def assign_ids(
        self, connection: Connection, ids: Collection[str], model: str, version: int, deployment_id: str
    ) -> int:
        """As `assign`, to the devices with these ids."""
        rest = iter(sorted(ids))
        selections = (device_ids(chunk) for chunk in iter(lambda: list(islice(rest, _CHUNK_COUNT)), []))
        return self._assign(connection, selections, self.release(connection, model, version), deployment_id)

    def _assign(
        self,
        connection: Connection,
        selections: Iterable[Condition],
        release: Release,
        deployment_id: str,
        terms: Terms = LIVE,
    ) -> int:
        now_s = self._clock.now()
        expires_s = now_s + self._lifetime_s
        deltas.want(connection, release.model, release.bundle_sha256, now_s)
        return sum(
            store.assign(connection, selection, release, deployment_id, now_s, expires_s, terms)
            for selection in selections
        )

    def release(self, connection: Connection, model: str, version: int) -> Release:
        """What would be assigned, kept from garbage collection until the end of the transaction."""
        row = registry.get_version(connection, model, version)
        if row.status is Status.WITHDRAWN:
            raise Conflict("deployment.withdrawn", f"Version {version} of {model} is withdrawn.")
        if row.status is not Status.APPROVED:
            raise Conflict(
                "deployment.not_approved",
                f"Version {version} of {model} is {row.status.value}; only an approved version can be deployed.",
                hint=f"Reviewers approve it with `skerry versions sign {model} {version}`.",
            )
        blobs_index.require_bundle(connection, row.bundle_sha256)
        return Release(
            model=model,
            version=version,
            bundle_sha256=row.bundle_sha256,
            bundle_bytes=row.bundle_bytes,
            bake_s=models.get_model(connection, model).bake_s,
        )

    def withdraw_pending(self, connection: Connection, deployment_id: str) -> int:
        """Take back a deployment's assignments to devices that do not serve it yet; returns how many."""
        return store.withdraw_pending(connection, store.of_deployment(deployment_id))

    def is_entitled(self, device_id: str, sha256: str) -> bool:
        """Whether a device may fetch a bundle: assigned to it, served by it, or what it could roll back to."""
        with self._db.read() as connection:
            return store.is_entitled(connection, device_id, sha256)

    def reissue_expiring(self, now_s: float | None = None) -> int:
        """Renew what half of its lifetime has passed of and no device has taken up; returns how many devices."""
        now_s = self._clock.now() if now_s is None else now_s
        with self._db.write() as connection:
            return store.reissue(connection, now_s, now_s + self._lifetime_s / 2, now_s + self._lifetime_s)

    def renew_pending(self, connection: Connection, now_s: float) -> int:
        """Renew, in the caller's transaction, all that devices may still check: the signing key changed; how many.

        That is what no device has taken up, and what a device is installing: after a restart it checks again.
        """
        return store.reissue_unfinished(connection, now_s, now_s + self._lifetime_s)

    def start_anew(self, device_id: str) -> None:
        """Renew all that a device should have, because it has just enrolled and may have nothing."""
        now_s = self._clock.now()
        with self._db.write() as connection:
            store.reissue_device(connection, device_id, now_s, now_s + self._lifetime_s)
