"""Signed assignments for devices that no network reaches: fetched from the hub, checked, written into a folder.

A device far away cannot tell anybody on the spot that its folder was made wrongly, so everything that it will check is
checked here first: the hub's signature by a key that the verified targets list, the device, and the signed release.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import Targets

from hub.cli.repository_view import RepositoryView
from hub.cli.session import Session
from hub.trust import metadata
from hub.trust.names import role_of
from shared import canonical, dsse, durable, limits
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, MAX_ASSIGNMENT_KEYS_BYTES, parse_assignment_keys
from shared.errors import Conflict, Untrusted
from shared.ids import parse_device_id
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, Assignment

__all__ = ["CarriedAssignment", "fetch_assignments", "write_assignments"]


@dataclass(frozen=True, slots=True)
class CarriedAssignment:
    """One assignment with the envelope that goes to the device."""

    device_id: str
    model: str
    version: int
    counter: int
    target: str
    expires_s: float
    envelope: bytes

    def answer(self) -> dict[str, Any]:
        """What a command says about it."""
        return {
            "device_id": self.device_id,
            "model": self.model,
            "version": self.version,
            "counter": self.counter,
            "expires_s": self.expires_s,
        }


def fetch_assignments(
    session: Session, view: RepositoryView, devices: Sequence[str], models: Collection[str]
) -> list[CarriedAssignment]:
    """What these devices are assigned (of `models`, if any are named).

    An assignment of a model whose role has expired is left out: the device would refuse it. Errors:
    `export.nothing_assigned`, `export.expired_role`, `export.bad_assignment`, `dsse.*`, `device.not_found`.
    """
    if not devices:
        return []
    keys = _assignment_keys(session, view)
    found: list[CarriedAssignment] = []
    for device_id in dict.fromkeys(map(parse_device_id, devices)):
        items = session.client.get(f"/v1/devices/{device_id}/assignments")["items"]
        wanted = [item for item in items if not models or item["model"] in models]
        if not wanted:
            raise Conflict(
                "export.nothing_assigned",
                f"{device_id} is assigned nothing" + (f" of {', '.join(sorted(models))}." if models else "."),
                hint=f"Deploy to it first, for example: skerry deploy MODEL VERSION --filter id=={device_id}",
            )
        found += _usable(session, view, device_id, wanted, keys)
    return found


def _usable(
    session: Session, view: RepositoryView, device_id: str, items: Sequence[dict[str, Any]], keys: dict[str, Key]
) -> list[CarriedAssignment]:
    found: list[CarriedAssignment] = []
    expired: list[str] = []
    for item in items:
        try:
            found.append(_checked(view, device_id, item["envelope"].encode(), keys, session.now()))
        except Untrusted as error:
            if error.code != "trust.expired":
                raise
            expired.append(role_of(item["model"]))
    if not found:
        raise Untrusted(
            "export.expired_role",
            f"{device_id} would refuse everything that it is assigned: {', '.join(expired)} has expired.",
            hint=f"Its reviewers sign it again: skerry trust renew {expired[0]} --sign-with NAME.key",
        )
    return found


def _assignment_keys(session: Session, view: RepositoryView) -> dict[str, Key]:
    described = metadata.parse(view.targets, Targets).signed.targets[ASSIGNMENT_KEYS_PATH]
    folder, _, name = described.path.rpartition("/")
    path = f"/v1/tuf/targets/{folder}/{described.hashes['sha256']}.{name}"
    data = session.client.get_bytes(path, limit=MAX_ASSIGNMENT_KEYS_BYTES)
    if metadata.describe_file(described.path, data) != described:
        raise Untrusted("cli.digest_mismatch", f"{described.path} is not what the metadata describes.")
    return parse_assignment_keys(data)


def _checked(
    view: RepositoryView, device_id: str, envelope: bytes, keys: dict[str, Key], now_s: float
) -> CarriedAssignment:
    payload = dsse.verify(envelope, ASSIGNMENT_PAYLOAD_TYPE, keys, limits.MAX_ASSIGNMENT_BYTES)
    found = canonical.loads_as(payload, Assignment, limit=limits.MAX_ASSIGNMENT_BYTES, what="assignment")
    release = view.role(role_of(found.model))
    described = metadata.parse(release, Targets).signed.targets.get(found.target) if release is not None else None
    signed = (described.length, described.hashes.get("sha256")) if described is not None else None
    if found.device_id != device_id or signed != (found.bundle_bytes, found.bundle_sha256) or found.expires_s <= now_s:
        raise Untrusted(
            "export.bad_assignment",
            f"{device_id} would refuse its assignment of {found.model} {found.version}.",
            hint="It has expired, or its version is not approved any more: deploy again.",
        )
    return CarriedAssignment(
        device_id, found.model, found.version, found.counter, found.target, found.expires_s, envelope
    )


def write_assignments(directory: Path, devices: Sequence[str], carried: Sequence[CarriedAssignment]) -> None:
    """Write `assignments/<device>/<model>.json`; what an earlier export had for these devices goes."""
    for device_id in dict.fromkeys(devices):
        folder = directory / "assignments" / device_id
        durable.make_dir(folder, 0o755)
        keep = {f"{item.model}.json" for item in carried if item.device_id == device_id}
        for old in folder.iterdir():
            if old.name not in keep:
                durable.remove(old)
    for item in carried:
        path = directory / "assignments" / item.device_id / f"{item.model}.json"
        durable.write_file(path, item.envelope, mode=0o644)
