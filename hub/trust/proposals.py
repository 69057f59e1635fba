"""What may be staged for signatures: pure checks that catch a mistake before anyone signs it.

The signatures protect clients from the hub; these rules protect people from publishing what they did not mean: a
version that skips, an expiry in the past, a delegation that is wider than its model, a release that passed no gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from tuf.api.metadata import DelegatedRole, Root, Snapshot, TargetFile, Targets, Timestamp

from hub.trust import metadata
from hub.trust.names import role_model, role_of, role_paths, target_path
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, parse_assignment_keys
from shared.errors import Conflict, InvalidInput
from shared.ids import parse_version

__all__ = [
    "MAX_LIFETIME_S",
    "check_assignment_keys",
    "check_next",
    "check_release",
    "check_root",
    "check_targets",
    "new_versions",
    "removed_versions",
]

MAX_LIFETIME_S = 10 * 365 * 86_400
_OWN_FOLDER = "skerry/"


def check_next(signed: Root | Targets, published_version: int, now_s: float) -> None:
    """The version follows the published one, and the expiry is a sane time ahead."""
    if signed.version <= published_version:
        raise Conflict(
            "release.stale",
            f"Version {signed.version} is already published.",
            hint="Fetch the newest metadata and start again from it.",
        )
    if signed.version != published_version + 1:
        raise InvalidInput("trust.bad_version", f"The next version is {published_version + 1}, not {signed.version}.")
    if not now_s < metadata.expiry_s(signed) <= now_s + MAX_LIFETIME_S:
        raise InvalidInput("trust.bad_expiry", f"The expiry {signed.expires:%Y-%m-%d} is in the past or too far away.")


def check_root(root: Root, online_key_ids: Collection[str]) -> None:
    """Every role has enough keys, and the hub holds the online one, which signs nothing offline."""
    if root.consistent_snapshot is not True:
        raise InvalidInput("trust.not_consistent", "The root must ask for consistent snapshots.")
    offline = [metadata.quorum_of(root, role) for role in (Root.type, Targets.type)]
    for role in (Snapshot.type, Timestamp.type):
        key_ids = metadata.quorum_of(root, role).key_ids
        if len(key_ids) != 1 or key_ids[0] not in online_key_ids:
            raise InvalidInput(
                "trust.unknown_online_key",
                f"The root does not name this hub's online key for {role}.",
                hint="`skerry trust show` prints the key; `skerry keys rotate online` proposes a root with a new one.",
            )
    if any(key_id in online_key_ids for quorum in offline for key_id in quorum.key_ids):
        raise InvalidInput("trust.online_key_offline", "The hub's online key must not sign root or targets.")


def check_targets(targets: Targets) -> None:
    """Top-level targets hold the hub's own files only, and each delegation reaches exactly its model's folder."""
    for path in targets.targets:
        if not path.startswith(_OWN_FOLDER):
            raise InvalidInput(
                "trust.foreign_target", f"The targets role may not speak about {path!r:.120}; its model's role does."
            )
    if ASSIGNMENT_KEYS_PATH not in targets.targets:
        raise InvalidInput("trust.assignment_keys", "The targets metadata does not name the assignment keys.")
    delegations = targets.delegations
    if delegations is not None and delegations.succinct_roles is not None:
        raise InvalidInput("trust.bad_delegation", "Hash-bin delegations are not used here.")
    for role in ((delegations.roles or {}) if delegations is not None else {}).values():
        _check_delegation(targets, role)


def _check_delegation(targets: Targets, role: DelegatedRole) -> None:
    model = role_model(role.name)
    if model is None or role.name != role_of(model) or role.paths != role_paths(model):
        raise InvalidInput(
            "trust.bad_delegation", f"The delegation {role.name!r:.80} does not cover exactly the folder of its model."
        )
    metadata.quorum_of(targets, role.name)


def check_assignment_keys(described: TargetFile, data: bytes | None, held_key_ids: Collection[str]) -> None:
    """The list of assignment keys is the one described, and names a key that this hub holds."""
    if data is None or metadata.describe_file(described.path, data) != described:
        raise InvalidInput(
            "trust.assignment_keys",
            "The list of assignment keys does not come with the metadata that names it.",
            hint="Send the file along with the targets metadata.",
        )
    if not set(parse_assignment_keys(data)) & set(held_key_ids):
        raise InvalidInput("trust.assignment_keys", "The list of assignment keys names no key of this hub.")


def new_versions(model: str, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> dict[int, TargetFile]:
    """Version number and description of each target that `new` has and `old` has not, or has differently."""
    found: dict[int, TargetFile] = {}
    for path, described in new.items():
        version = parse_version(path.removeprefix(f"{model}/").removesuffix(".bundle"))
        if path != target_path(model, version) or set(described.hashes) != {"sha256"}:
            raise InvalidInput("trust.foreign_target", f"{path!r:.120} is not a version of {model}.")
        if old.get(path) != described:
            found[version] = described
    return found


def removed_versions(model: str, old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> list[int]:
    """Versions that were approved and are no more."""
    return sorted(
        parse_version(path.removeprefix(f"{model}/").removesuffix(".bundle")) for path in old if path not in new
    )


def check_release(
    model: str, old: Targets | None, new: Targets, releasable: Callable[[int], tuple[str, int]]
) -> dict[int, TargetFile]:
    """The versions that `new` adds; each must be the very bundle that `releasable` gives (sha256, bytes) or raises."""
    if new.delegations is not None:
        raise InvalidInput("trust.bad_delegation", "A model's role may not appoint others.")
    approved = old.targets if old is not None else {}
    added = new_versions(model, approved, new.targets)
    for version, described in added.items():
        if target_path(model, version) in approved:
            raise Conflict("release.changed", f"{model} version {version} was approved with another digest.")
        if releasable(version) != (described.hashes["sha256"], described.length):
            raise Conflict("release.other_bundle", f"This is not the registered bundle of {model} version {version}.")
    return added
