"""The agent's TUF client: which releases are signed by whom it takes, and how new they are.

The verifying is python-tuf's (`TrustedMetadataSet`: bytes in, trusted objects out); the loop around it is this one:
- every file is bounded before it is parsed, and persisted durably only after it was verified;
- a torn or missing local file is fetched again, and the floor (`agent.ota.floor`) still refuses anything older;
- the trusted time (`agent.ota.trusted_time`) is never before what this device knows, so a clock that starts in 1970
  neither blocks the device nor makes old metadata acceptable again.

File names are TUF's unversioned ones (`root.json`, `timestamp.json`, …) with the bytes as received. One refresh per
object; one object at a time per folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import (
    BadVersionNumberError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from agent.ota import trusted_time
from agent.ota.floor import check, under_keys
from agent.ota.metadata_store import LARGEST_BYTES, MetadataStore
from agent.ota.trusted_time import Uptime
from shared import canonical, durable, limits
from shared.clock import Clock
from shared.errors import InvalidInput, NotFound, StorageFailure, TooLarge, Untrusted

__all__ = ["Source", "UpdateClient", "trust_root"]

T = TypeVar("T")
_TIME_STEP_S = 60.0
_URL_SAFE = "/%:@!$&'()*+,;=~?"  # A target path is a URL already; only what no URL may hold is quoted.
_CODES: tuple[tuple[type[RepositoryError], str], ...] = (
    (ExpiredMetadataError, "trust.expired"),
    (BadVersionNumberError, "trust.rollback"),
    (UnsignedMetadataError, "trust.unsigned"),
    (LengthOrHashMismatchError, "trust.mismatch"),
    (DeserializationError, "trust.malformed"),
)


class Source(Protocol):
    """Where metadata and small target files come from."""

    def get(self, path: str, limit: int) -> bytes:
        """The file at `path` below the repository, at most `limit` bytes.

        Raises `NotFound` when there is none, `TooLarge` above the limit, `Unavailable` for anything that may pass.
        """
        ...


class UpdateClient:
    """Verified release metadata, and the state that it leaves in `directory`."""

    def __init__(
        self,
        directory: Path,
        source: Source,
        clock: Clock,
        *,
        bootstrap: bytes | None = None,
        not_before_s: float = 0.0,
        uptime: Callable[[], Uptime] = trusted_time.system_uptime,
        targets_prefix: str = "targets/",
    ) -> None:
        """`bootstrap`: root metadata to start from when the folder has none that is whole.

        not_before_s: a moment that has passed for sure (seconds since 1970). uptime: how long the machine is up.
        """
        self._store = MetadataStore(directory)
        self._source = source
        self._prefix = targets_prefix
        self._floor = self._saved = self._store.load_floor()
        up = uptime()
        least_s = trusted_time.least_s(self._floor, up, not_before_s)
        self.now_s = trusted_time.now_s(clock.now(), least_s)
        self._set = self._start(bootstrap)
        self._raise_floor(verified_s=least_s, uptime_s=up.seconds, boot=up.boot)
        self._set.reference_time = datetime.fromtimestamp(self.now_s, UTC)
        self._refreshed = False

    def refresh(self) -> None:
        """Bring root, timestamp, snapshot and targets up to date; errors `trust.*`, and those of the source."""
        if self._refreshed:
            return
        self._update_root()
        self._floor = under_keys(self._floor, _online_keys(self._set.root))
        self._update_timestamp()
        self._update_snapshot()
        self._load_targets(Targets.type, Root.type)
        self._raise_floor(verified_s=max(self._floor.verified_s, self.now_s))
        self._refreshed = True

    def target(self, path: str) -> TargetFile | None:
        """What the most trusted role says of a target, delegations followed; None when no role has it."""
        self.refresh()
        to_visit, visited = [(Targets.type, Root.type)], set[str]()
        while to_visit and len(visited) <= limits.MAX_DELEGATIONS_COUNT:
            role, parent = to_visit.pop()
            if role in visited:
                continue
            targets = self._load_targets(role, parent)
            found = targets.targets.get(path)
            if found is not None:
                return found
            visited.add(role)
            children = []
            if targets.delegations is not None:
                for child, terminating in targets.delegations.get_roles_for_target(path):
                    children.append((child, role))
                    if terminating:
                        to_visit = []
                        break
            to_visit.extend(reversed(children))
        return None

    def target_bytes(self, path: str, limit: int) -> bytes:
        """The verified content of a small target, from the folder when it is unchanged; `trust.no_target`."""
        return self.fetch_target(path, self._store.targets, limit)

    def fetch_target(self, path: str, folder: Path, limit: int) -> bytes:
        """The verified content of a target, which is kept in `folder` and fetched only when it changed."""
        info = self.target(path)
        if info is None:
            raise Untrusted("trust.no_target", f"The release metadata has no {path:.200}.", retriable=True)
        if info.length > limit:
            raise TooLarge("trust.too_large", f"{path:.200} has {info.length} bytes; at most {limit} are accepted.")
        cached = folder / quote(path, "")
        try:
            data = durable.read_file(cached, limit=limit)
            _verified(lambda: info.verify_length_and_hashes(data))
            return data
        except (NotFound, TooLarge, StorageFailure, Untrusted):
            fresh = self._source.get(self._prefix + self._target_url(info), info.length)
            _verified(lambda: info.verify_length_and_hashes(fresh))
            durable.make_dir(cached.parent)
            durable.sweep(cached.parent)
            durable.write_file(cached, fresh)
            return fresh

    def _target_url(self, info: TargetFile) -> str:
        if not self._set.root.consistent_snapshot:
            return quote(info.path, _URL_SAFE)
        digest = info.hashes.get("sha256") or next(iter(info.hashes.values()))
        folder, slash, name = info.path.rpartition("/")
        return quote(f"{folder}{slash}{digest}.{name}", _URL_SAFE)

    def _start(self, bootstrap: bytes | None) -> TrustedMetadataSet:
        """Start from the newest root of this folder, else from the first one that was ever seen here, else `bootstrap`.

        From an older one the chain of roots is walked again, and the floor refuses an end below where it was.
        """
        local = self._store.read(Root.type)
        for data in (local, self._store.first_root(), bootstrap):
            if data is None:
                continue
            try:
                trusted = _load_root(data)
            except Untrusted:
                continue  # Torn: the next candidate is older, never less trusted.
            self._store.keep_first_root(data)
            if data is not local:
                self._store.write(Root.type, data)
            return trusted
        raise Untrusted(
            "trust.no_root",
            "This device has no valid root of trust.",
            hint="Enrol the device again, or put the root metadata from its signers in place.",
        )

    def _update_root(self) -> None:
        first = self._set.root.version + 1
        for version in range(first, first + limits.MAX_ROOT_ROTATIONS_COUNT):
            try:
                data = self._source.get(f"{version}.{Root.type}.json", limits.MAX_ROOT_BYTES)
            except NotFound:
                break
            before = self._set.root
            _verified(partial(self._set.update_root, _strict(data)))
            for root in (before, self._set.root):
                _check_distinct(root, Root.type, data)
            self._store.write(Root.type, data)
        check(Root.type, self._set.root.version, self._floor.root)
        self._raise_floor(root=self._set.root.version)

    def _update_timestamp(self) -> None:
        self._load_local(Timestamp.type, lambda data: self._set.update_timestamp(data))
        data = self._source.get(f"{Timestamp.type}.json", limits.MAX_TIMESTAMP_BYTES)
        unchanged = False
        try:
            _verified(lambda: self._set.update_timestamp(_strict(data)))
            _check_distinct(self._set.root, Timestamp.type, data)
        except EqualVersionNumberError:
            unchanged = True
        version, snapshot = self._set.timestamp.version, self._set.timestamp.snapshot_meta.version
        check(Timestamp.type, version, self._floor.timestamp)
        check(Snapshot.type, snapshot, self._floor.snapshot)
        self._raise_floor(timestamp=version, snapshot=snapshot)
        if not unchanged:
            self._store.write(Timestamp.type, data)

    def _update_snapshot(self) -> None:
        if not self._load_local(Snapshot.type, lambda data: self._set.update_snapshot(data, trusted=True)):
            meta = self._set.timestamp.snapshot_meta
            data = self._get_metadata(Snapshot.type, meta.version, meta.length or limits.MAX_SNAPSHOT_BYTES)
            _verified(lambda: self._set.update_snapshot(_strict(data)))
            _check_distinct(self._set.root, Snapshot.type, data)
            self._check_meta()
            self._store.write(Snapshot.type, data)
        self._check_meta()
        self._raise_floor(meta={name: info.version for name, info in self._set.snapshot.meta.items()})

    def _check_meta(self) -> None:
        """No role that was verified before may be older now, or be gone."""
        meta = self._set.snapshot.meta
        for name, least in self._floor.meta.items():
            check(name, meta[name].version if name in meta else 0, least)

    def _load_targets(self, role: str, parent: str) -> Targets:
        if self._set.contains(role, parent):
            trusted = self._set[role]
            if not isinstance(trusted, Targets):
                raise Untrusted("trust.refused", f"The role {role!r:.80} is not a targets role.")
            return trusted
        try:
            local = self._store.read(role)
            if local is not None:
                return self._take_targets(role, parent, local)
        except Untrusted:
            pass  # An older or damaged copy: the newest is fetched, and refused if that is not right either.
        meta = self._set.snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise Untrusted("trust.refused", f"The role {role!r:.80} is delegated to but not in the snapshot.")
        data = self._get_metadata(role, meta.version, meta.length or limits.MAX_TARGETS_BYTES)
        loaded = self._take_targets(role, parent, data)
        self._store.write(role, data)
        return loaded

    def _take_targets(self, role: str, parent: str, data: bytes) -> Targets:
        delegator = self._set[parent]
        if isinstance(delegator, Root | Targets):
            _check_distinct(delegator, role, data)
        return _verified(lambda: self._set.update_delegated_targets(_strict(data), role, parent))

    def _get_metadata(self, role: str, version: int, limit: int) -> bytes:
        name = quote(role, "")
        versioned = f"{version}.{name}.json" if self._set.root.consistent_snapshot else f"{name}.json"
        try:
            return self._source.get(versioned, min(limit, LARGEST_BYTES))
        except NotFound as error:
            raise Untrusted(
                "trust.missing", f"The repository lacks {versioned}, which its own metadata names.", retriable=True
            ) from error

    def _load_local(self, role: str, update: Callable[[bytes], object]) -> bool:
        """Load the local copy; whether it is also the valid final one. A bad copy only means that it is fetched."""
        data = self._store.read(role)
        if data is None:
            return False
        try:
            _verified(lambda: update(_strict(data)))
        except Untrusted:
            return False
        return True

    def _raise_floor(self, **fields: object) -> None:
        """Note what was just verified; the time alone is written at most once a minute."""
        self._floor = msgspec.structs.replace(self._floor, **fields)
        saved = self._saved
        timeless = msgspec.structs.replace(
            self._floor, verified_s=saved.verified_s, uptime_s=saved.uptime_s, boot=saved.boot
        )
        if timeless != saved or self._floor.verified_s >= saved.verified_s + _TIME_STEP_S:
            self._store.save_floor(self._floor)
            self._saved = self._floor


def trust_root(directory: Path, data: bytes) -> None:
    """Make `data` the root of trust of this folder; errors `trust.*` unless it is root metadata signed by itself."""
    _load_root(data)
    MetadataStore(directory).anchor(data)


def _load_root(data: bytes) -> TrustedMetadataSet:
    trusted = _verified(partial(TrustedMetadataSet, _strict(data), EnvelopeType.METADATA))
    _check_distinct(trusted.root, Root.type, data)
    return trusted


def _check_distinct(delegator: Root | Targets, role: str, data: bytes) -> None:
    """A threshold counts keys, not their names: one key under several key ids is one; error `trust.unsigned`."""

    def count() -> None:
        appointed = [delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids]
        if len({_value(key) for key in appointed}) == len(appointed):
            return
        metadata: Metadata[Any] = Metadata.from_bytes(_strict(data))
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        signed = len({_value(key) for key in result.signed.values()})
        if signed < result.threshold:
            raise UnsignedMetadataError(f"{role} was signed by {signed} different keys of {result.threshold}")

    _verified(count)


def _value(key: Key) -> str:
    return "".join(str(key.keyval.get("public", key.keyid)).split()).lower()


def _verified(step: Callable[[], T]) -> T:
    """What `step` returns, with python-tuf's refusals as `Untrusted` (`trust.*`)."""
    try:
        return step()
    except EqualVersionNumberError:
        raise
    except RepositoryError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "trust.refused")
        raise Untrusted(code, f"The release metadata is refused: {error}."[:300], retriable=True) from error


def _strict(data: bytes) -> bytes:
    """The same bytes, if they are JSON without duplicate keys or non-numbers; error `trust.malformed`."""
    try:
        canonical.loads(data, limit=LARGEST_BYTES, what="metadata")
    except InvalidInput as error:
        raise Untrusted("trust.malformed", error.message, retriable=True) from error
    return data


def _online_keys(root: Root) -> str:
    """A digest of who may sign timestamp and snapshot under this root."""
    roles = (root.roles[Timestamp.type], root.roles[Snapshot.type])
    return hashlib.sha256(canonical.dumps([sorted(role.keyids) for role in roles])).hexdigest()
