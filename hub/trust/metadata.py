"""Pure builders of TUF metadata: bytes in, bytes out, nothing published.

Every builder gives unsigned metadata; `sign` and `attach` add signatures. Bytes from outside are bounded, read with
the strict JSON loader (no duplicate keys) and written again by python-tuf, so that every client reads the same thing.
Metadata of a new version never mutates what it was built from. Expiry is in seconds since 1970, rounded down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from hub.trust.names import role_of, role_paths, target_path
from shared import canonical, limits
from shared.errors import InvalidInput, Untrusted

__all__ = [
    "Quorum",
    "attach",
    "build_release",
    "build_revocation",
    "build_root",
    "build_snapshot",
    "build_targets",
    "build_timestamp",
    "carries",
    "check_signature",
    "describe_file",
    "expiry_s",
    "make_signature",
    "parse",
    "parse_any",
    "quorum_of",
    "renew",
    "revise_root",
    "revise_targets",
    "sign",
    "without_signatures",
]

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
_LIMITS: Mapping[str, int] = {
    Root.type: limits.MAX_ROOT_BYTES,
    Timestamp.type: limits.MAX_TIMESTAMP_BYTES,
    Snapshot.type: limits.MAX_SNAPSHOT_BYTES,
    Targets.type: limits.MAX_TARGETS_BYTES,
}


@dataclass(frozen=True, slots=True)
class Quorum:
    """Who signs for a role: the keys, and how many different ones of them are needed."""

    keys: tuple[Key, ...]
    threshold: int

    def __post_init__(self) -> None:
        distinct = {key.keyid for key in self.keys}
        values = {str(sorted(key.keyval.items())) for key in self.keys}
        if len(distinct) != len(self.keys) or len(values) != len(self.keys):
            raise InvalidInput("trust.same_key_twice", "The same key is named twice for one role.")
        if not 1 <= self.threshold <= len(self.keys):
            raise InvalidInput(
                "trust.bad_threshold",
                f"A threshold of {self.threshold} is not possible with {len(self.keys)} key(s).",
                hint="Give a threshold from 1 to the number of keys.",
            )

    @property
    def key_ids(self) -> list[str]:
        """Key ids in the order given."""
        return [key.keyid for key in self.keys]


def parse(data: bytes, kind: type[S]) -> Metadata[S]:
    """Metadata of one type from bytes; errors `trust.malformed` and `json.too_large`; signatures are not checked."""
    canonical.loads(data, limit=_LIMITS[kind.type], what=f"{kind.type} metadata")
    try:
        found = Metadata[S].from_bytes(data)
    except (DeserializationError, RepositoryError, ValueError) as error:
        raise InvalidInput("trust.malformed", f"This is not valid TUF {kind.type} metadata: {error}.") from error
    if not isinstance(found.signed, kind):
        raise InvalidInput("trust.malformed", f"This is {found.signed.type} metadata, but {kind.type} is expected.")
    return found


def _write(signed: Any, signatures: Mapping[str, Signature] | None = None) -> bytes:
    return Metadata(signed, dict(signatures or {})).to_bytes()


def _when(time_s: float) -> datetime:
    return datetime.fromtimestamp(int(time_s), tz=UTC)


def expiry_s(signed: Signed) -> float:
    """When metadata expires, in seconds since 1970."""
    return signed.expires.timestamp()


# --- signatures -----------------------------------------------------------------------------------------------------
def parse_any(data: bytes) -> Metadata[Any]:
    """Metadata of whatever type its content says; the same bounds and errors as `parse`."""
    plain = canonical.loads(data, limit=limits.MAX_TARGETS_BYTES, what="metadata")
    name = plain.get("signed", {}).get("_type") if isinstance(plain, dict) else None
    for kind in (Root, Targets, Snapshot, Timestamp):
        if name == kind.type:
            return parse(data, kind)
    raise InvalidInput("trust.malformed", "This is not TUF metadata.")


def make_signature(data: bytes, signer: Signer) -> Signature:
    """The signature of `signer` over the signed part of metadata."""
    return signer.sign(parse_any(data).signed_bytes)


def check_signature(data: bytes, key: Key, signature: Signature) -> None:
    """Raises `trust.bad_signature` unless `signature` is of `key` over the signed part of metadata."""
    try:
        key.verify_signature(signature, parse_any(data).signed_bytes)
    except UnverifiedSignatureError as error:
        raise Untrusted(
            "trust.bad_signature",
            "The signature does not match what is to be signed.",
            hint="Fetch the newest bytes and sign again.",
        ) from error


def carries(data: bytes, quorum: Quorum) -> bool:
    """Whether metadata has enough valid signatures of this quorum."""
    found = parse_any(data)
    valid = 0
    for key in quorum.keys:
        if key.keyid not in found.signatures:
            continue
        try:
            key.verify_signature(found.signatures[key.keyid], found.signed_bytes)
        except UnverifiedSignatureError:
            continue  # counted as missing
        valid += 1
    return valid >= quorum.threshold


def attach(data: bytes, *signatures: Signature) -> bytes:
    """The same metadata with more signatures; a second one of the same key replaces the first."""
    found = parse_any(data)
    return _write(found.signed, found.signatures | {signature.keyid: signature for signature in signatures})


def without_signatures(data: bytes) -> bytes:
    """The same metadata, unsigned: the form in which two proposals are compared."""
    return _write(parse_any(data).signed)


def sign(data: bytes, *signers: Signer) -> bytes:
    """The same metadata with the signatures of `signers` added."""
    return attach(data, *(make_signature(data, signer) for signer in signers))


# --- offline roles --------------------------------------------------------------------------------------------------
def build_root(root: Quorum, targets: Quorum, online: Key, *, version: int, expires_s: float) -> bytes:
    """Root metadata: offline keys for root and targets, one online key for snapshot and timestamp."""
    once = Quorum((online,), 1)
    quorums = {Root.type: root, Targets.type: targets, Snapshot.type: once, Timestamp.type: once}
    if online.keyid in {*root.key_ids, *targets.key_ids}:
        raise InvalidInput("trust.online_key_offline", "The hub's online key must not sign root or targets.")
    keys = {key.keyid: key for quorum in quorums.values() for key in quorum.keys}
    roles = {name: Role(quorum.key_ids, quorum.threshold) for name, quorum in quorums.items()}
    return _write(Root(version=version, expires=_when(expires_s), keys=keys, roles=roles, consistent_snapshot=True))


def quorum_of(delegator: Root | Targets, role: str) -> Quorum:
    """Who signs for `role` by the word of `delegator`; error `trust.not_delegated`."""
    try:
        found = delegator.get_delegated_role(role)
        return Quorum(tuple(delegator.get_key(keyid) for keyid in found.keyids), found.threshold)
    except ValueError as error:
        raise InvalidInput(
            "trust.not_delegated",
            f"Nobody is appointed to sign for {role}.",
            hint="`skerry models create` appoints the reviewers of a model.",
        ) from error


def revise_root(
    current: bytes,
    *,
    expires_s: float,
    root: Quorum | None = None,
    targets: Quorum | None = None,
    online: Key | None = None,
) -> bytes:
    """The next root version: what is not given stays as it is."""
    old = parse(current, Root).signed
    return build_root(
        root or quorum_of(old, Root.type),
        targets or quorum_of(old, Targets.type),
        online or quorum_of(old, Timestamp.type).keys[0],
        version=old.version + 1,
        expires_s=expires_s,
    )


def build_targets(files: Mapping[str, bytes], models: Mapping[str, Quorum], *, version: int, expires_s: float) -> bytes:
    """Top-level targets: the hub's own target files and one delegation per model."""
    return _targets({path: describe_file(path, data) for path, data in files.items()}, models, version, expires_s)


def revise_targets(
    current: bytes,
    *,
    expires_s: float,
    files: Mapping[str, bytes] | None = None,
    models: Mapping[str, Quorum] | None = None,
) -> bytes:
    """The next targets version: given files and models are added or replaced, the others stay as they are."""
    old = parse(current, Targets).signed
    described = dict(old.targets) | {path: describe_file(path, data) for path, data in (files or {}).items()}
    appointed: dict[str, Quorum] = {}
    for role in (old.delegations.roles or {}) if old.delegations else {}:
        appointed[role.removeprefix("model-")] = quorum_of(old, role)
    return _targets(described, appointed | dict(models or {}), old.version + 1, expires_s)


def _targets(
    described: Mapping[str, TargetFile], models: Mapping[str, Quorum], version: int, expires_s: float
) -> bytes:
    keys = {key.keyid: key for quorum in models.values() for key in quorum.keys}
    roles = {
        role_of(model): DelegatedRole(
            role_of(model), quorum.key_ids, quorum.threshold, terminating=True, paths=role_paths(model)
        )
        for model, quorum in models.items()
    }
    return _write(
        Targets(
            version=version,
            expires=_when(expires_s),
            targets=dict(described),
            delegations=Delegations(keys=keys, roles=roles),
        )
    )


def describe_file(path: str, data: bytes) -> TargetFile:
    """Length and SHA-256 of a small target file under its path."""
    return TargetFile(len(data), {"sha256": sha256(data).hexdigest()}, path)


# --- releases -------------------------------------------------------------------------------------------------------
def build_release(
    current: bytes | None, model: str, version: int, bundle_sha256: str, bundle_bytes: int, *, expires_s: float
) -> bytes:
    """The next version of a model's role: all that was approved before, and this one bundle more."""
    old = parse(current, Targets).signed if current is not None else None
    path = target_path(model, version)
    approved = dict(old.targets) if old else {}
    approved[path] = TargetFile(bundle_bytes, {"sha256": bundle_sha256}, path)
    number = old.version + 1 if old else 1
    return _write(Targets(version=number, expires=_when(expires_s), targets=approved))


def build_revocation(current: bytes, model: str, version: int, *, expires_s: float) -> bytes:
    """The next version of a model's role: all that was approved before, but for this one; `release.not_approved`."""
    old = parse(current, Targets).signed
    path = target_path(model, version)
    if path not in old.targets:
        raise InvalidInput("release.not_approved", f"Version {version} of {model} is not approved.")
    approved = {name: described for name, described in old.targets.items() if name != path}
    return _write(Targets(version=old.version + 1, expires=_when(expires_s), targets=approved))


def renew(current: bytes, *, expires_s: float) -> bytes:
    """The next version with the same content, to be signed again before the old one expires or after a key change."""
    signed = parse_any(current).signed
    signed.version += 1
    signed.expires = _when(expires_s)
    return _write(signed)


# --- online roles ---------------------------------------------------------------------------------------------------
def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": sha256(data).hexdigest()})


def build_snapshot(
    previous: bytes | None, changed: Iterable[tuple[str, int, bytes]], *, version: int, expires_s: float
) -> bytes:
    """A snapshot: the previous entries with the changed (role, version, bytes) replaced; nothing is ever removed."""
    meta = dict(parse(previous, Snapshot).signed.meta) if previous is not None else {}
    for role, number, data in changed:
        meta[f"{role}.json"] = _meta(number, data)
    return _write(Snapshot(version=version, expires=_when(expires_s), meta=meta))


def build_timestamp(snapshot_version: int, snapshot: bytes, *, version: int, expires_s: float) -> bytes:
    """A timestamp that names exactly these snapshot bytes."""
    return _write(Timestamp(version=version, expires=_when(expires_s), snapshot_meta=_meta(snapshot_version, snapshot)))
