"""`skerry trust export`: a static copy of the hub's repository, verified while it is made.

Every file is fetched under the name and digest that verified metadata gives. `timestamp.json` is written last, so that
a client that reads in the middle sees the old state or the new one. For a folder that is carried to devices, their
signed assignments come along, and only what they are assigned; each is checked here as the device will check it.

A model whose role has expired is left out and named: nobody can install it before its reviewers sign again, and that is
no reason to send the person with the stick away without the other models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp

from hub.cli.carried_assignments import CarriedAssignment, fetch_assignments, write_assignments
from hub.cli.repository_view import RepositoryView, open_view
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.names import role_model, role_of
from shared import durable
from shared.errors import NotFound, Untrusted
from shared.limits import MAX_TARGETS_BYTES

__all__ = ["mirror"]


def mirror(
    session: Session, directory: Path, *, models: Collection[str] = (), devices: Sequence[str] = ()
) -> dict[str, Any]:
    """Write `metadata/`, `targets/` and, for `devices`, `assignments/`.

    `models`: only their bundles; all metadata comes along in any case. Answers with counts, with target paths whose
    bundles the hub no longer has, with roles that have expired, and until when devices take the folder. Errors: those
    of `open_view` and `fetch_assignments`.
    """
    view = open_view(session)
    releases, expired = _releases(view)
    carried = fetch_assignments(session, view, devices, models)
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    count = 0
    for role, data in releases.items():
        signed = metadata.parse(data, Targets).signed
        files[f"{signed.version}.{role}.json"] = data
        for described in signed.targets.values():
            if not _is_wanted(role, described, models, carried if devices else None):
                continue
            if _fetch_target(session, directory, role, described):
                count += 1
            else:
                left_out.append(described.path)
    write_assignments(directory, devices, carried)
    timestamp = _write_metadata(session, view, directory, files)
    held = {role_of(item.model) for item in carried} | {Targets.type} if devices else releases.keys()
    expiries = [timestamp, *(item.expires_s for item in carried), *(_expiry_s(releases[role]) for role in held)]
    return {
        "directory": str(directory),
        "metadata": len(files),
        "targets": count,
        "left_out": left_out,
        "expired_roles": expired,
        "assignments": [item.answer() for item in carried],
        "valid_until_s": min(expiries),
    }


def _releases(view: RepositoryView) -> tuple[dict[str, bytes], list[str]]:
    """The top-level targets and each model's role that has metadata; and the roles that have expired."""
    delegated = metadata.parse(view.targets, Targets).signed.delegations
    found: dict[str, bytes] = {}
    expired: list[str] = []
    for role in (Targets.type, *((delegated.roles or {}) if delegated else {})):
        try:
            data = view.role(role)
        except Untrusted as error:
            if error.code != "trust.expired":
                raise
            expired.append(role)
            continue
        if data is not None:
            found[role] = data
    return found, expired


def _expiry_s(data: bytes) -> float:
    return metadata.expiry_s(metadata.parse_any(data).signed)


def _is_wanted(
    role: str, described: TargetFile, models: Collection[str], carried: Sequence[CarriedAssignment] | None
) -> bool:
    model = role_model(role)
    if model is None:
        return True
    if carried is not None:
        return any(item.target == described.path for item in carried)
    return not models or model in models


def _write_metadata(session: Session, view: RepositoryView, directory: Path, files: dict[str, bytes]) -> float:
    """Write the metadata files, `timestamp.json` last; until when it holds. `files`: the targets roles'."""
    snapshot = view.kept(Snapshot.type)
    files[f"{metadata.parse(snapshot, Snapshot).signed.version}.snapshot.json"] = snapshot
    for version in range(1, metadata.parse(view.root, Root).signed.version + 1):
        name = f"{version}.root.json"
        files[name] = session.client.get_bytes(f"/v1/tuf/{name}", limit=MAX_TARGETS_BYTES)
    timestamp = view.kept(Timestamp.type)
    files["timestamp.json"] = timestamp
    folder = directory / "metadata"
    durable.make_dir(folder, 0o755)
    for name, data in files.items():
        durable.write_file(folder / name, data, mode=0o644)
    return min(_expiry_s(data) for data in (timestamp, snapshot, view.root))


def _fetch_target(session: Session, directory: Path, role: str, described: TargetFile) -> bool:
    """Fetch one target file unless it is there; False if the hub no longer has it."""
    digest = described.hashes["sha256"]
    folder, _, name = described.path.rpartition("/")
    target = directory / "targets" / folder / f"{digest}.{name}"
    if target.exists() and target.stat().st_size == described.length and _digest(target) == digest:
        return True
    durable.make_dir(target.parent, 0o755)
    path = f"/v1/tuf/targets/{folder}/{digest}.{name}"
    try:
        if role_model(role) is None:
            data = session.client.get_bytes(path, limit=described.length)
            if hashlib.sha256(data).hexdigest() != digest:
                raise Untrusted("cli.digest_mismatch", f"{described.path} is not what the metadata describes.")
            durable.write_file(target, data, mode=0o644)
        else:
            with session.out.progress(f"Downloading {described.path}") as progress:
                session.client.download(path, target, sha256=digest, progress=progress)
    except NotFound:
        return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
