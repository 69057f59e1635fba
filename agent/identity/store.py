"""The identity's files. The key and its certificate change together or not at all.

`identity/` holds `identity.json` (written last: an enrolment is complete when it exists), `hub-ca.crt`, and one folder
`pair-…` per key and certificate; `current` is a symbolic link to the pair in use, and `device.key` and `device.crt`
are links through it. So one rename switches both, and every path stays where other parts look for it. `pending/` holds
a key whose certificate has not come yet: an interrupted enrolment or renewal goes on with the same key.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared import canonical, durable, limits
from shared.errors import NotFound, SkerryError, StorageFailure
from shared.wire.types import DeviceId, Sha256, TimeS, Word

__all__ = ["Credentials", "Identity", "IdentityStore", "Validity"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What enrolment settled. `profile` is the name of a firmware profile or the path of a profile file."""

    schema_version: int = 1
    device_id: DeviceId
    hub_url: Annotated[str, Meta(pattern=r"^https://[^\s/]+\Z", max_length=512)]
    mqtt_host: Word
    mqtt_port: Annotated[int, Meta(ge=1, le=65535)]
    profile: Annotated[str, Meta(max_length=4096)]
    hardware_id: Word = ""


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """From when until when a certificate is valid (seconds since 1970), and which one it is."""

    not_before_s: TimeS
    not_after_s: TimeS
    sha256: Sha256


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The paths that TLS needs, all of one pair (never half of a newer one).

    known_s: when the certificate began to be valid, so a moment that has passed (seconds since 1970; 0: not known).
    """

    key: Path
    certificate: Path
    hub_ca: Path
    known_s: float = 0.0


class IdentityStore:
    """Reads and switches the files below one `identity` folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def _file(self) -> Path:
        return self.root / "identity.json"

    @property
    def _current(self) -> Path:
        return self.root / "current"

    @property
    def hub_ca(self) -> Path:
        return self.root / "hub-ca.crt"

    @property
    def pending_key(self) -> Path:
        """The key that waits for its certificate."""
        return self.root / "pending" / "device.key"

    def exists(self) -> bool:
        """Whether an enrolment was completed."""
        return self._file.exists()

    def load(self) -> Identity:
        """The identity, or `NotFound` (`identity.missing`)."""
        try:
            data = durable.read_file(self._file, limit=limits.MAX_KEY_FILE_BYTES)
        except NotFound as error:
            raise NotFound(
                "identity.missing",
                "This device is not enrolled.",
                hint="Run `skerry-agent enrol` with the join string from `skerry devices token`.",
            ) from error
        return canonical.loads_as(data, Identity, limit=limits.MAX_KEY_FILE_BYTES, what="identity")

    def credentials(self) -> Credentials:
        """The paths of the pair in use; `identity.damaged` when it is not complete."""
        try:
            pair = self.root / os.readlink(self._current)
        except OSError as error:
            raise _damaged("The identity names no key.") from error
        found = Credentials(key=pair / "device.key", certificate=pair / "device.crt", hub_ca=self.hub_ca)
        for path in (found.key, found.certificate, found.hub_ca):
            if not path.is_file():
                raise _damaged(f"{path.name} is missing.")
        with contextlib.suppress(SkerryError):  # Only a hint: without it the dates of certificates are checked.
            return msgspec.structs.replace(found, known_s=self.validity().not_before_s)
        return found

    def validity(self) -> Validity:
        """When the certificate in use ends."""
        data = durable.read_file(self._current / "validity.json", limit=limits.MAX_KEY_FILE_BYTES)
        return canonical.loads_as(data, Validity, limit=limits.MAX_KEY_FILE_BYTES, what="certificate's validity")

    def keep_pending_key(self, key_pem: bytes) -> None:
        """Store a key, readable by its owner only, before its certificate is asked for."""
        durable.make_dir(self.pending_key.parent)
        durable.write_file(self.pending_key, key_pem, mode=0o600)

    def install(
        self, identity: Identity, key_pem: bytes, certificate_pem: bytes, ca_pem: bytes, valid: Validity
    ) -> None:
        """Complete an enrolment."""
        durable.make_dir(self.root)
        durable.write_file(self.hub_ca, ca_pem, mode=0o644)
        self._use(key_pem, certificate_pem, valid)
        durable.write_file(self._file, canonical.dumps(identity))
        self._forget_pending()  # not before: the token works again for this key only

    def switch(self, key_pem: bytes, certificate_pem: bytes, valid: Validity) -> None:
        """Use a new key and certificate from now on; the pair before stays for connections that still read it."""
        self._use(key_pem, certificate_pem, valid)
        self._forget_pending()

    def _use(self, key_pem: bytes, certificate_pem: bytes, valid: Validity) -> None:
        before = self._pair_in_use()
        pair = self.root / f"pair-{valid.sha256[:16]}"
        durable.make_dir(pair)
        durable.write_file(pair / "device.key", key_pem, mode=0o600)
        durable.write_file(pair / "device.crt", certificate_pem, mode=0o644)
        durable.write_file(pair / "validity.json", canonical.dumps(valid), mode=0o644)
        self._link(self._current, pair.name)
        for name in ("device.key", "device.crt"):
            self._link(self.root / name, f"current/{name}")
        for old in self.root.glob("pair-*"):
            if old.name not in (pair.name, before):
                shutil.rmtree(old, ignore_errors=True)

    def _forget_pending(self) -> None:
        shutil.rmtree(self.pending_key.parent, ignore_errors=True)

    def _pair_in_use(self) -> str:
        with contextlib.suppress(OSError):
            return os.readlink(self._current)
        return ""

    def _link(self, link: Path, target: str) -> None:
        temporary = link.with_name(f".tmp-{link.name}")
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
        except OSError as error:
            raise StorageFailure("storage.write", f"Cannot write {link.name}: {error.strerror or error}.") from error
        durable.rename(temporary, link)


def _damaged(message: str) -> StorageFailure:
    return StorageFailure(
        "identity.damaged", message, hint="Enrol the device again with `skerry-agent enrol --replace`."
    )
