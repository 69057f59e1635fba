"""The hub's two online keys: `online` signs snapshot and timestamp, `assignment` signs assignments.

Each is a PKCS#8 file of mode 0600 in the hub's data folder. During a rotation a second one, `<name>-next.key`, waits
beside it. Which of the two signs is never decided here but by the published metadata that names it, so a power cut
between publication and the renaming of files changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key

from shared import durable, limits
from shared.errors import InvalidInput, NotFound, StorageFailure

__all__ = ["KEY_NAMES", "OnlineKeys", "load_pem_signer"]

KEY_NAMES = ("online", "assignment")


def load_pem_signer(pem: bytes, passphrase: bytes | None = None) -> CryptoSigner:
    """A signer from an Ed25519 private key in PEM; ValueError or TypeError if it is not one or cannot be decrypted."""
    private = load_pem_private_key(pem, passphrase)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")
    return CryptoSigner(private)


class OnlineKeys:
    """The key files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signers: dict[Path, CryptoSigner] = {}

    def create_missing(self) -> None:
        """Make the keys that are not there yet; existing ones are never replaced."""
        durable.make_dir(self._directory)
        for name in KEY_NAMES:
            if not self._path(name).exists():
                self._write(self._path(name))

    def current(self, name: str) -> CryptoSigner:
        """The key in use, as long as no published metadata says otherwise; error `trust.no_online_key`."""
        return self._load(self._path(name))

    def pending(self, name: str) -> CryptoSigner | None:
        """The key that waits for a rotation to be published, if there is one."""
        path = self._next_path(name)
        return self._load(path) if path.exists() else None

    def prepare_next(self, name: str) -> Key:
        """Make the key for a rotation; asked again, it gives the same one until it is in use."""
        if name not in KEY_NAMES:
            raise InvalidInput("trust.unknown_online_key", f"There is no online key called {name[:40]!r}.")
        path = self._next_path(name)
        if not path.exists():
            self._write(path)
        return self._load(path).public_key

    def find(self, name: str, key_ids: Collection[str]) -> CryptoSigner | None:
        """The hub's key among `key_ids`; the pending one first, because naming it is what puts it into use."""
        for _ in range(2):
            for signer in (self.pending(name), self.current(name)):
                if signer is not None and signer.public_key.keyid in key_ids:
                    return signer
            self._signers.clear()  # another process may have renamed the files since they were read
        return None

    def settle(self, name: str, key_ids: Collection[str]) -> None:
        """Once metadata that names the pending key is published: rename it into place. Idempotent."""
        pending = self.pending(name)
        if pending is not None and pending.public_key.keyid in key_ids:
            durable.rename(self._next_path(name), self._path(name))
            self._signers.clear()

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.key"

    def _next_path(self, name: str) -> Path:
        return self._directory / f"{name}-next.key"

    def _write(self, path: Path) -> None:
        durable.write_file(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)

    def _load(self, path: Path) -> CryptoSigner:
        known = self._signers.get(path)
        if known is not None:
            return known
        try:
            signer = load_pem_signer(durable.read_file(path, limit=limits.MAX_KEY_FILE_BYTES))
        except NotFound as error:
            raise StorageFailure(
                "trust.no_online_key",
                f"The hub's key {path.name} is missing.",
                hint="Restore it from the backup, or run `skerry-hub init`.",
            ) from error
        except (ValueError, TypeError) as error:
            raise StorageFailure("trust.no_online_key", f"The hub's key {path.name} is damaged: {error}.") from error
        self._signers[path] = signer
        return signer
