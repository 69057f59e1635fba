"""The key of the sample file: made on first use, readable by the agent alone, and what an erasure destroys.

Rules: the key is durable before anything is encrypted with it; a key that is damaged is as good as none; an erasure
overwrites it before its name goes, so that what remains of the samples anywhere on the disk is noise.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from shared import durable
from shared.errors import NotFound, StorageFailure, TooLarge

__all__ = ["SampleKey", "destroy_key", "load_key", "make_key"]

_KEY_BYTES = 32
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class SampleKey:
    """`secret`: for AES-256-GCM. `id`: names it, and tells nothing about it."""

    secret: bytes

    @property
    def id(self) -> bytes:
        """16 bytes."""
        return hashlib.sha256(b"skerry sample key id" + self.secret).digest()[:16]

    def __repr__(self) -> str:
        return f"SampleKey({self.id.hex()})"


def load_key(path: Path) -> SampleKey | None:
    """The key; None when there is none, or none that is whole."""
    try:
        data = durable.read_file(path, limit=_KEY_BYTES + _DIGEST_BYTES)
    except (NotFound, TooLarge):
        return None
    secret, digest = data[:_KEY_BYTES], data[_KEY_BYTES:]
    return SampleKey(secret) if hashlib.sha256(secret).digest() == digest else None


def make_key(path: Path) -> SampleKey:
    """A new key, durable when this returns; error `storage.write`."""
    secret = secrets.token_bytes(_KEY_BYTES)
    durable.write_file(path, secret + hashlib.sha256(secret).digest())
    return SampleKey(secret)


def destroy_key(path: Path) -> None:
    """Overwrite the key and remove it, durably; fine when there is none. Error `samples.erase`."""
    try:
        with path.open("r+b", buffering=0) as file:
            file.write(bytes(_KEY_BYTES + _DIGEST_BYTES))
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageFailure(
            "samples.erase",
            f"The key of the samples cannot be overwritten: {error.strerror or error}.",
            hint="Run this as root or as the account of the agent.",
        ) from error
    durable.remove(path)
