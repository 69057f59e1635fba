"""`skerry trust export`: a static copy of the hub's repository, verified while it is made.

Every file is fetched under the name and digest that verified metadata gives. `timestamp.json` is written last, so that
a client that reads in the middle sees the old state or the new one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, Snapshot, TargetFile, Targets, Timestamp

from hub.cli.repository_view import open_view
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.names import role_model
from shared import durable
from shared.errors import NotFound, Untrusted
from shared.limits import MAX_TARGETS_BYTES

__all__ = ["mirror"]


def mirror(session: Session, directory: Path) -> dict[str, Any]:
    """Write `metadata/` and `targets/`; counts, and target paths whose bundles the hub no longer has."""
    view = open_view(session)
    delegated = metadata.parse(view.targets, Targets).signed.delegations
    roles = [Targets.type, *((delegated.roles or {}) if delegated else {})]
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    count = 0
    for role in roles:
        data = view.role(role)
        if data is None:
            continue
        signed = metadata.parse(data, Targets).signed
        files[f"{signed.version}.{role}.json"] = data
        for described in signed.targets.values():
            if _fetch_target(session, directory, role, described):
                count += 1
            else:
                left_out.append(described.path)
    snapshot = view.kept(Snapshot.type)
    files[f"{metadata.parse(snapshot, Snapshot).signed.version}.snapshot.json"] = snapshot
    for version in range(1, metadata.parse(view.root, Root).signed.version + 1):
        name = f"{version}.root.json"
        files[name] = session.client.get_bytes(f"/v1/tuf/{name}", limit=MAX_TARGETS_BYTES)
    files["timestamp.json"] = view.kept(Timestamp.type)
    folder = directory / "metadata"
    durable.make_dir(folder, 0o755)
    for name, data in files.items():
        durable.write_file(folder / name, data, mode=0o644)
    return {"directory": str(directory), "metadata": len(files), "targets": count, "left_out": left_out}


def _fetch_target(session: Session, directory: Path, role: str, described: TargetFile) -> bool:
    """Fetch one target file unless it is there; False if the hub no longer has it."""
    digest = described.hashes["sha256"]
    folder, _, name = described.path.rpartition("/")
    target = directory / "targets" / folder / f"{digest}.{name}"
    if target.exists():
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
