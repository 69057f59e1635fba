"""A TUF repository in memory whose every key is the test's own, so that it can also be the attacker's.

repository = Repository()
repository.targets["digits/1.bundle"] = b"…"
repository.publish()                       # signs what changed and serves it
UpdateClient(folder, repository, clock, bootstrap=repository.files["1.root.json"])
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from copy import deepcopy

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from shared.errors import NotFound, TooLarge

__all__ = ["FixedClock", "Repository"]


class FixedClock:
    """A clock that the test sets."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def now(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return 0.0


class Repository:
    """Top-level roles with one key each (root: two of two), and one delegated role `model-digits` for `digits/*`."""

    ROLES = ("root", "timestamp", "snapshot", "targets", "model-digits")

    def __init__(self, now_s: float = 1_800_000_000.0) -> None:
        self.now_s = now_s
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.targets: dict[str, bytes] = {}
        self.releases: dict[str, bytes] = {}
        self.versions = dict.fromkeys(self.ROLES, 0)
        self.lifetimes_s = dict.fromkeys(self.ROLES, 365 * 86400.0)
        self.keys: dict[str, list[CryptoSigner]] = {role: [CryptoSigner.generate_ed25519()] for role in self.ROLES}
        self.keys["root"].append(CryptoSigner.generate_ed25519())
        self.publish_root()
        self.publish()

    def get(self, path: str, limit: int) -> bytes:
        """As `agent.ota.update_client.Source`."""
        self.requests.append(path)
        if path not in self.files:
            raise NotFound("hub.not_found", path)
        if len(self.files[path]) > limit:
            raise TooLarge("trust.too_large", path, retriable=True)
        return self.files[path]

    def publish_root(self, signers: Sequence[CryptoSigner] = ()) -> bytes:
        """The next root with the keys of now, signed by its own and the given (older) root keys."""
        root = Root(version=self._next("root"), expires=self._expires("root"), consistent_snapshot=True)
        for role in ("root", "timestamp", "snapshot", "targets"):
            for signer in self.keys[role]:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = len(self.keys[role])
        return self._put(f"{root.version}.root.json", Metadata(root), [*self.keys["root"], *signers])

    def publish(self) -> None:
        """New targets, delegated role, snapshot and timestamp."""
        self.publish_targets()
        self.publish_snapshot()
        self.publish_timestamp()

    def publish_targets(self) -> None:
        """New targets and delegated role, not yet in any snapshot."""
        reviewer = self.keys["model-digits"][0]
        role = DelegatedRole("model-digits", [], 1, terminating=True, paths=["digits/*"])
        targets = Targets(version=self._next("targets"), expires=self._expires("targets"))
        targets.delegations = Delegations({}, {role.name: role})
        targets.add_key(reviewer.public_key, role.name)
        targets.targets = self._describe(self.targets)
        self._put(f"{targets.version}.targets.json", Metadata(targets), self.keys["targets"])
        released = Targets(version=self._next("model-digits"), expires=self._expires("model-digits"))
        released.targets = self._describe(self.releases)
        self._put(f"{released.version}.model-digits.json", Metadata(released), self.keys["model-digits"])

    def publish_snapshot(self, **versions: int) -> None:
        """A new snapshot of the versions of now, or of the given ones."""
        meta = {name: self.versions[name] for name in ("targets", "model-digits")} | versions
        snapshot = Snapshot(version=self._next("snapshot"), expires=self._expires("snapshot"))
        snapshot.meta = {f"{name}.json": MetaFile(version) for name, version in meta.items()}
        self._put(f"{snapshot.version}.snapshot.json", Metadata(snapshot), self.keys["snapshot"])

    def publish_timestamp(self) -> None:
        """A new timestamp for the snapshot of now."""
        timestamp = Timestamp(version=self._next("timestamp"), expires=self._expires("timestamp"))
        timestamp.snapshot_meta = MetaFile(self.versions["snapshot"])
        self._put("timestamp.json", Metadata(timestamp), self.keys["timestamp"])

    def remember(self) -> tuple[dict[str, bytes], dict[str, int]]:
        """What an old mirror would still have."""
        return dict(self.files), deepcopy(self.versions)

    def _next(self, role: str) -> int:
        self.versions[role] += 1
        return self.versions[role]

    def _expires(self, role: str) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.now_s + self.lifetimes_s[role], dt.UTC).replace(microsecond=0)

    def _describe(self, files: dict[str, bytes]) -> dict[str, TargetFile]:
        described = {}
        for path, data in files.items():
            described[path] = TargetFile.from_data(path, data, ["sha256"])
            folder, _, name = path.rpartition("/")
            self.files[f"targets/{folder}/{hashlib.sha256(data).hexdigest()}.{name}"] = data
        return described

    def _put(self, path: str, metadata: Metadata, signers: Sequence[CryptoSigner]) -> bytes:  # type: ignore[type-arg]
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        self.files[path] = metadata.to_bytes()
        return self.files[path]
