"""The seam for artefact storage: files today, an object store by another implementation.

A blob is named by the SHA-256 that *this side* computed while the bytes came in; what a client claims is only compared.
Nothing is visible under its digest before all of it is durable. Writing the same content twice, also at the same
time, is fine and heals a damaged copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["BlobStore", "BlobWriter", "StoredBlob"]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob's name and length."""

    sha256: str
    bytes: int


class BlobWriter(Protocol):
    """One blob on its way in: `write…`, `seal`, look at `path` if need be, then `commit` or `discard`."""

    @property
    def path(self) -> Path:
        """The local file with the bytes so far; complete and durable after `seal`."""
        ...

    def write(self, chunk: bytes) -> None:
        """Add bytes; `TooLarge` (`blob.too_large`) as soon as the bound is passed."""
        ...

    def seal(self) -> StoredBlob:
        """Make the bytes durable and say what they are. Nothing is visible yet."""
        ...

    def commit(self) -> StoredBlob:
        """Make the blob visible under its digest."""
        ...

    def discard(self) -> None:
        """Forget the bytes unless they were committed; may be called at any time, more than once."""
        ...


class BlobStore(Protocol):
    """Where blobs live."""

    def writer(self, limit: int) -> BlobWriter:
        """A writer for a blob of at most `limit` bytes."""
        ...

    def put_bytes(self, data: bytes) -> StoredBlob:
        """Store a small blob at once."""
        ...

    def read_bytes(self, sha256: str, limit: int) -> bytes:
        """A small blob whole; errors `blob.missing`, `blob.too_large`, `blob.damaged` (the digest does not hold)."""
        ...

    def local_path(self, sha256: str) -> Path:
        """A local file with the blob's bytes; error `blob.missing`."""
        ...

    def exists(self, sha256: str) -> bool:
        """Whether the bytes are here."""
        ...

    def size(self, sha256: str) -> int:
        """Bytes of the blob; error `blob.missing`."""
        ...

    def open_range(self, sha256: str, first: int, last: int) -> Iterator[bytes]:
        """The bytes from offset `first` to `last` (both included) in chunks; error `blob.missing` before the first."""
        ...

    def remove(self, sha256: str) -> None:
        """Remove the bytes; nothing happens when they are not here."""
        ...

    def older_than(self, age_s: float) -> Iterator[str]:
        """Digests of blobs that nobody has stored or stored again for that long."""
        ...

    def sweep(self, older_than_s: float) -> int:
        """Remove unfinished blobs that nobody has written to for that long; returns how many."""
        ...
