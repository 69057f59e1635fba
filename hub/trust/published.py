"""The published repository in the database: reading it, and adding a publication to it in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, TargetFile, Targets, Timestamp

from hub.settings import TrustSettings
from hub.store import trust as store
from hub.store.database import Connection
from hub.trust import metadata
from hub.trust.names import role_model
from hub.trust.online_keys import OnlineKeys
from hub.trust.proposals import check_release, removed_versions
from hub.trust.publication import Publication, Publisher
from hub.trust.registry import Audit, PendingAssignments, ReleaseRegistry
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, parse_assignment_keys
from shared.errors import Conflict, InternalError

__all__ = ["PublishedRepository"]

_TIMESTAMPS_KEPT_COUNT = 1000


class PublishedRepository:
    """Reads and publishes within a connection; every write happens under `hub.store.trust.lock`."""

    def __init__(
        self,
        keys: OnlineKeys,
        settings: TrustSettings,
        audit: Audit,
        registry: ReleaseRegistry,
        pending: PendingAssignments,
    ) -> None:
        self._keys = keys
        self._settings = settings
        self._audit = audit
        self._registry = registry
        self._pending = pending

    def publisher(self, connection: Connection, now_s: float) -> Publisher:
        """What builds publications on top of the state that `connection` sees."""
        return Publisher(partial(store.latest, connection), self._online_signer, self._settings, now_s)

    def must(self, connection: Connection, role: str) -> store.PublishedMetadata:
        """The newest version of a role that a bootstrapped repository has; error `trust.not_initialised`."""
        found = store.latest(connection, role)
        if found is None:
            raise Conflict(
                "trust.not_initialised",
                "The hub has no trust root yet.",
                hint="Make keys with `skerry keys create` and run `skerry trust init`.",
            )
        return found

    def targets(self, connection: Connection) -> Targets:
        """The published top-level targets."""
        return metadata.parse(self.must(connection, Targets.type).data, Targets).signed

    def release(self, connection: Connection, role: str) -> Targets | None:
        """The published metadata of a model's role, if anything was ever approved."""
        found = store.latest(connection, role)
        return metadata.parse(found.data, Targets).signed if found else None

    def releasable(self, model: str, version: int) -> tuple[str, int]:
        """SHA-256 and bytes of a version that may be released, by the registry's word."""
        found = self._registry.require_gated(model, version)
        return found.bundle_sha256, found.bundle_bytes

    def added_versions(self, connection: Connection, role: str, new: Targets) -> dict[int, TargetFile]:
        """Versions that a model's role would add, checked against the registry."""
        model = role_model(role)
        if model is None:
            return {}
        old = self.release(connection, role)
        return check_release(model, old, new, partial(self.releasable, model))

    def removed_versions(self, connection: Connection, role: str, new: Targets) -> list[int]:
        """Versions whose approval a model's role would take back."""
        model, old = role_model(role), self.release(connection, role)
        return removed_versions(model, old.targets, new.targets) if model is not None and old is not None else []

    def assignment_key_ids(self, connection: Connection) -> Collection[str]:
        """Key ids that the published targets let sign assignments."""
        described = self.targets(connection).targets[ASSIGNMENT_KEYS_PATH]
        data = store.get_file(connection, ASSIGNMENT_KEYS_PATH, described.hashes["sha256"])
        if data is None:
            raise InternalError("trust.assignment_keys", "The published list of assignment keys is missing.")
        return parse_assignment_keys(data).keys()

    def commit(
        self, connection: Connection, publication: Publication, overlay: Mapping[str, bytes], actor: str
    ) -> None:
        """Add a publication, drop what was staged for it, tell registry and audit log."""
        for role in publication.roles:
            model = role_model(role)
            if model is None:
                continue
            new = metadata.parse(overlay[role], Targets).signed
            for version in self.added_versions(connection, role, new):
                self._registry.mark_approved(connection, model, version, actor)
            for version in self.removed_versions(connection, role, new):
                self._registry.mark_revoked(connection, model, version, actor)
        new_keys = Targets.type in publication.roles and self._changes_assignment_keys(
            connection, overlay[Targets.type]
        )
        store.add_published(connection, publication.rows)
        store.drop_staged(connection, publication.roles)
        if new_keys:
            self._pending.renew_pending(connection, publication.rows[0].published_s)
        versions = {row.role: row.version for row in publication.rows}
        for role in publication.roles:
            self._audit.append(connection, actor, "trust.published", role, {"versions": versions})

    def _changes_assignment_keys(self, connection: Connection, data: bytes) -> bool:
        published = store.latest(connection, Targets.type)
        if published is None:
            return False
        old, new = (metadata.parse(targets, Targets).signed.targets for targets in (published.data, data))
        return old[ASSIGNMENT_KEYS_PATH] != new[ASSIGNMENT_KEYS_PATH]

    def commit_online(self, connection: Connection, publication: Publication) -> None:
        """Add a re-signed timestamp (and snapshot), and forget timestamps that nobody can ask for any more."""
        store.add_published(connection, publication.rows)
        newest = max(row.version for row in publication.rows if row.role == Timestamp.type)
        store.drop_old_timestamps(connection, newest - _TIMESTAMPS_KEPT_COUNT)

    def settle_keys(self, connection: Connection) -> None:
        """Put pending online keys into their place once published metadata names them."""
        root = metadata.parse(self.must(connection, Root.type).data, Root).signed
        self._keys.settle("online", root.roles[Timestamp.type].keyids)
        self._keys.settle("assignment", self.assignment_key_ids(connection))

    def _online_signer(self, key_ids: list[str]) -> CryptoSigner:
        signer = self._keys.find("online", key_ids)
        if signer is None:
            raise Conflict(
                "trust.unknown_online_key",
                "This hub does not hold the online key that the root names.",
                hint="Restore the hub's keys folder, or sign a root that names its present key.",
            )
        return signer
