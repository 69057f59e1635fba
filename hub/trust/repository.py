"""The TUF repository as a service: bootstrap, staging and signing, publication, online re-signing, assignments.

Each change is one write transaction, in which role, snapshot and timestamp become visible together; concurrent
publishers wait for each other at its start. The hub never publishes what python-tuf's client would refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp

from hub.settings import TrustSettings
from hub.store import trust as store
from hub.store.database import Connection, Database
from hub.trust import export, metadata, proposals
from hub.trust.assignments import AssignmentSigner
from hub.trust.names import parse_filename, role_model, role_of, target_path
from hub.trust.online_keys import OnlineKeys
from hub.trust.published import PublishedRepository
from hub.trust.registry import Audit, Blobs, PendingAssignments, ReleaseRegistry
from hub.trust.staging import Outcome, Staging
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH
from shared.clock import Clock
from shared.errors import Conflict, InternalError, InvalidInput, NotFound
from shared.wire.down import Assignment

__all__ = ["OnlineKeySet", "RoleStatus", "TrustRepository", "TrustStatus"]


@dataclass(frozen=True, slots=True)
class OnlineKeySet:
    """The hub's public online keys, and those that wait for a rotation to be signed."""

    online: Key
    assignment: Key
    online_next: Key | None
    assignment_next: Key | None


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One published role: its version, expiry, and who signs for it."""

    role: str
    version: int
    expires_s: float
    threshold: int
    key_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustStatus:
    """The whole repository at a glance."""

    initialised: bool
    roles: tuple[RoleStatus, ...]
    staged: tuple[Outcome, ...]


class TrustRepository:
    """One hub's TUF repository. All methods are safe to call from several threads and processes."""

    def __init__(
        self,
        db: Database,
        keys: OnlineKeys,
        settings: TrustSettings,
        *,
        clock: Clock,
        audit: Audit,
        registry: ReleaseRegistry,
        pending: PendingAssignments,
        blobs: Blobs,
    ) -> None:
        self._db = db
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._audit = audit
        self._blobs = blobs
        self._published = PublishedRepository(keys, settings, audit, registry, pending)
        self._staging = Staging(self._published, keys, settings, audit)

    # --- the beginning, and offline changes -------------------------------------------------------------------------
    def online_keys(self) -> OnlineKeySet:
        """The public keys that a root and an assignment key list must name."""
        online, assignment = self._keys.pending("online"), self._keys.pending("assignment")
        return OnlineKeySet(
            online=self._keys.current("online").public_key,
            assignment=self._keys.current("assignment").public_key,
            online_next=online.public_key if online else None,
            assignment_next=assignment.public_key if assignment else None,
        )

    def prepare_online_key(self, name: str, actor: str) -> Key:
        """Make the next `online` or `assignment` key; it is used from when metadata that names it is published."""
        with self._db.write() as connection:
            key = self._keys.prepare_next(name)
            self._audit.append(connection, actor, "trust.key_prepared", name, {"key_id": key.keyid})
        return key

    def bootstrap(self, root: bytes, targets: bytes, files: Mapping[str, bytes], actor: str) -> None:
        """Publish the first, fully signed root and targets; the same again is fine, another is refused."""
        now_s = self._clock.now()
        first_root, first_targets = metadata.parse(root, Root), metadata.parse(targets, Targets)
        overlay = {Root.type: first_root.to_bytes(), Targets.type: first_targets.to_bytes()}
        with self._db.write() as connection:
            known = store.get_published(connection, Root.type, 1)
            if known is not None:
                if known.data == overlay[Root.type]:
                    return
                raise Conflict(
                    "trust.initialised",
                    "The hub has a trust root already.",
                    hint="Change it with `skerry keys rotate`; the holders of the present root keys must sign.",
                )
            for signed in (first_root.signed, first_targets.signed):
                proposals.check_next(signed, 0, now_s)
            proposals.check_root(first_root.signed, self._staging.held("online"))
            proposals.check_targets(first_targets.signed)
            described = first_targets.signed.targets[ASSIGNMENT_KEYS_PATH]
            data = files.get(ASSIGNMENT_KEYS_PATH)
            proposals.check_assignment_keys(described, data, self._staging.held("assignment"))
            store.add_files(connection, [(ASSIGNMENT_KEYS_PATH, described.hashes["sha256"], data or b"")], now_s)
            publication = self._published.publisher(connection, now_s).prepare(overlay)
            self._published.commit(connection, publication, overlay, actor)
        self._settle_keys()

    def stage_release(self, model: str, version: int, actor: str) -> Outcome:
        """Put a version that passed its gate before the reviewers; asked again, it is the same staged bytes."""
        with self._db.write() as connection:
            return self._staging.release(connection, model, version, actor, self._clock.now())

    def propose(
        self,
        role: str,
        data: bytes,
        actor: str,
        *,
        files: Mapping[str, bytes] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Stage the next version of a role (root, targets, model-…), signed already or not."""
        with self._db.write() as connection:
            now_s = self._clock.now()
            outcome = self._staging.propose(connection, role, data, actor, now_s, files=files, context=context)
        return self._after(outcome)

    def staged(self, role: str) -> Outcome:
        """What waits for signatures in a role; error `trust.not_staged`."""
        with self._db.read() as connection:
            return self._staging.show(connection, role)

    def add_signature(self, role: str, version: int, key_id: str, signature: str, actor: str) -> Outcome:
        """Count a signature (hex) over the staged version; publishes when it was the last one missing."""
        with self._db.write() as connection:
            given = Signature(key_id, signature)
            outcome = self._staging.sign(connection, role, version, given, actor, self._clock.now())
        return self._after(outcome)

    def withdraw(self, role: str, actor: str) -> None:
        """Take back what is staged for a role."""
        with self._db.write() as connection:
            self._staging.withdraw(connection, role, actor)

    def _after(self, outcome: Outcome) -> Outcome:
        if outcome.published:
            self._settle_keys()
        return outcome

    def _settle_keys(self) -> None:
        with self._db.read() as connection:
            self._published.settle_keys(connection)

    # --- online re-signing ------------------------------------------------------------------------------------------
    def refresh_online(self, now_s: float) -> bool:
        """Re-sign timestamp and snapshot if they are due at `now_s`; True if something was published. Idempotent."""
        with self._db.read() as connection:
            if store.latest(connection, Root.type) is None:
                return False
            due = self._due(connection, now_s)
            self._published.settle_keys(connection)
        if due is None:
            return False
        with self._db.write() as connection:
            due = self._due(connection, now_s)
            if due is None:
                return False
            publisher = self._published.publisher(connection, now_s)
            self._published.commit_online(connection, publisher.resign(with_snapshot=due == Snapshot.type))
        return True

    def _due(self, connection: Connection, now_s: float) -> str | None:
        """The role to re-sign: snapshot (and with it timestamp) after half its life, timestamp every `refresh_s`."""
        snapshot = self._published.must(connection, Snapshot.type)
        timestamp = self._published.must(connection, Timestamp.type)
        if snapshot.expires_s - now_s < self._settings.snapshot_expires_s / 2:
            return Snapshot.type
        soon = timestamp.expires_s - now_s < self._settings.timestamp_expires_s / 2
        return Timestamp.type if soon or now_s - timestamp.published_s >= self._settings.refresh_s else None

    # --- reading ----------------------------------------------------------------------------------------------------
    def published(self, filename: str) -> bytes:
        """A metadata file by its served name (`2.root.json`, `timestamp.json`); error `trust.no_such_metadata`."""
        role, version = parse_filename(filename)
        with self._db.read() as connection:
            found = store.latest(connection, role) if version is None else None
            if version is not None:
                found = store.get_published(connection, role, version)
        if found is None:
            raise NotFound("trust.no_such_metadata", f"There is no metadata called {filename[:96]!r}.")
        return found.data

    def root(self) -> bytes:
        """The newest root, as a device gets it at its enrolment; error `trust.not_initialised`."""
        with self._db.read() as connection:
            return self._published.must(connection, Root.type).data

    def current(self, role: str) -> bytes | None:
        """The newest published metadata of a role, or None if it was never published."""
        with self._db.read() as connection:
            found = store.latest(connection, role)
        return found.data if found else None

    def target_file(self, path: str, sha256: str) -> bytes:
        """A small target file of the top-level role; error `trust.no_such_target`."""
        with self._db.read() as connection:
            found = store.get_file(connection, path, sha256)
        if found is None:
            raise NotFound("trust.no_such_target", "There is no such target file.")
        return found

    def is_bundle(self, path: str, sha256: str) -> bool:
        """Whether a target path and digest are an approved version's bundle."""
        folder = path.partition("/")[0]
        try:
            role = role_of(folder)
        except InvalidInput:
            return False  # the hub's own folder, or no model's name at all
        with self._db.read() as connection:
            release = self._published.release(connection, role)
        described = release.targets.get(path) if release else None
        return described is not None and described.hashes["sha256"] == sha256

    def require_approved(self, model: str, version: int) -> tuple[str, int]:
        """SHA-256 and bytes of an approved version; errors `release.not_approved`, `release.expired`."""
        with self._db.read() as connection:
            release = self._published.release(connection, role_of(model))
        described: TargetFile | None = release.targets.get(target_path(model, version)) if release else None
        if release is None or described is None:
            raise Conflict(
                "release.not_approved",
                f"{model} version {version} is not approved.",
                hint=f"Reviewers approve it with `skerry versions sign {model} {version}`.",
            )
        if metadata.expiry_s(release) <= self._clock.now():
            raise Conflict(
                "release.expired",
                f"The approvals of {model} have expired, so devices would refuse them.",
                hint=f"Reviewers sign them again: `skerry trust renew {role_of(model)}`.",
            )
        return described.hashes["sha256"], described.length

    def is_approved(self, model: str, version: int) -> bool:
        """Whether devices would accept this version now."""
        try:
            self.require_approved(model, version)
        except Conflict:
            return False
        return True

    def status(self) -> TrustStatus:
        """Published roles, what is staged."""
        with self._db.read() as connection:
            if store.latest(connection, Root.type) is None:
                return TrustStatus(False, (), ())
            root = metadata.parse(self._published.must(connection, Root.type).data, Root).signed
            targets = self._published.targets(connection)
            roles = [_role_status(row, root, targets) for row in store.latest_all(connection)]
            staged = [self._staging.show(connection, row.role) for row in store.list_staged(connection)]
        return TrustStatus(True, tuple(roles), tuple(staged))

    # --- assignments ------------------------------------------------------------------------------------------------
    def assignment_signer(self) -> AssignmentSigner:
        """A signer with the key that the published list names; ask for a new one for each batch."""
        with self._db.read() as connection:
            key_ids = self._published.assignment_key_ids(connection)
        signer = self._keys.find("assignment", key_ids)
        if signer is None:
            raise InternalError(
                "trust.unknown_online_key",
                "This hub holds none of the assignment keys that the published targets name.",
                hint="Restore the hub's keys folder, or run `skerry keys rotate assignment`.",
            )
        return AssignmentSigner(signer)

    def sign_assignment(self, assignment: Assignment) -> bytes:
        """The DSSE envelope of one assignment."""
        return self.assignment_signer().sign(assignment)

    # --- export -----------------------------------------------------------------------------------------------------
    def export(self, directory: Path) -> list[str]:
        """Write a static repository (`metadata/`, `targets/`) that any TUF client can use.

        Returns the target paths that are left out because their bundles were garbage-collected here.
        """
        with self._db.read() as connection:
            rows = store.all_published(connection)
            newest = store.latest_all(connection)
            own = {
                (path, described.hashes["sha256"]): store.get_file(connection, path, described.hashes["sha256"]) or b""
                for path, described in self._published.targets(connection).targets.items()
            }
        bundles, left_out = self._bundles([row.data for row in newest if role_model(row.role) is not None])
        newest_timestamp = [row for row in newest if row.role == Timestamp.type]
        others = [row for row in rows if row.role != Timestamp.type]
        export.write_export(directory, others + newest_timestamp, bundles, own)
        return left_out

    def _bundles(self, releases: Iterable[bytes]) -> tuple[dict[tuple[str, str], Path], list[str]]:
        found: dict[tuple[str, str], Path] = {}
        left_out: list[str] = []
        for data in releases:
            for path, described in metadata.parse(data, Targets).signed.targets.items():
                digest = described.hashes["sha256"]
                try:
                    found[path, digest] = self._blobs.local_path(digest)
                except NotFound:
                    left_out.append(path)
        return found, left_out


def _role_status(row: store.PublishedMetadata, root: Root, targets: Targets) -> RoleStatus:
    top = row.role in root.roles
    delegated = (targets.delegations.roles or {}) if targets.delegations else {}
    role = root.roles[row.role] if top else delegated.get(row.role)
    return RoleStatus(
        row.role,
        row.version,
        row.expires_s,
        role.threshold if role else 0,
        tuple(role.keyids) if role else (),
    )
