"""Blobs as files: `sha256/<first two hex digits>/<64 hex digits>`, unfinished ones in `incoming/`.

Everything of one store is on one file system, so becoming visible is one atomic rename. An unfinished file belongs to
a writer that is alive or was cut off; the sweep goes by the time of the last write.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hub.blobs.store import StoredBlob
from shared import durable
from shared.errors import InternalError, NotFound, StorageFailure, TooLarge
from shared.ids import parse_sha256

__all__ = ["FileBlobs", "FileBlobWriter"]

_CHUNK_BYTES = 64 * 1024


class FileBlobWriter:
    """A blob on its way into a `FileBlobs`."""

    def __init__(self, path: Path, limit: int, place: Callable[[str], Path]) -> None:
        self._path = path
        self._limit = limit
        self._place = place
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._sealed: StoredBlob | None = None
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def path(self) -> Path:
        """The unfinished file."""
        return self._path

    def write(self, chunk: bytes) -> None:
        """Add bytes; errors `blob.too_large`, `storage.write`."""
        if self._bytes + len(chunk) > self._limit:
            raise TooLarge("blob.too_large", f"The upload is over {self._limit} bytes.")
        try:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise _write_failure(error) from error
        self._hash.update(chunk)
        self._bytes += len(chunk)

    def seal(self) -> StoredBlob:
        """Fsync and close the unfinished file; calling it again gives the same answer."""
        if self._sealed is None:
            try:
                os.fsync(self._fd)
            except OSError as error:
                raise _write_failure(error) from error
            self._close()
            self._sealed = StoredBlob(self._hash.hexdigest(), self._bytes)
        return self._sealed

    def commit(self) -> StoredBlob:
        """Move the file to its digest, durably; it replaces a copy that is already there."""
        blob = self.seal()
        target = self._place(blob.sha256)
        durable.make_dir(target.parent)
        os.utime(self._path)  # a copy that is fresh is safe from garbage collection until it is registered
        durable.rename(self._path, target)
        return blob

    def discard(self) -> None:
        """Remove the unfinished file; after a commit there is none."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileBlobs:
    """The blobs below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        durable.make_dir(self._incoming)

    def _place(self, sha256: str) -> Path:
        digest = parse_sha256(sha256)
        return self._root / "sha256" / digest[:2] / digest

    def writer(self, limit: int) -> FileBlobWriter:
        """A writer for a blob of at most `limit` bytes."""
        return FileBlobWriter(self._incoming / secrets.token_hex(16), limit, self._place)

    def put_bytes(self, data: bytes) -> StoredBlob:
        """Store a small blob at once."""
        writer = self.writer(len(data))
        try:
            writer.write(data)
            return writer.commit()
        finally:
            writer.discard()

    def read_bytes(self, sha256: str, limit: int) -> bytes:
        """A small blob whole; errors `blob.missing`, `blob.too_large`, `blob.damaged`."""
        if self.size(sha256) > limit:
            raise TooLarge("blob.too_large", f"The blob {sha256[:12]}… is over {limit} bytes.")
        data = self.local_path(sha256).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StorageFailure(
                "blob.damaged",
                f"The stored bytes of {sha256[:12]}… are not what was written.",
                hint="Upload the same file again or restore a backup; then check the disk.",
            )
        return data

    def local_path(self, sha256: str) -> Path:
        """The file of a blob; error `blob.missing`."""
        path = self._place(sha256)
        if not path.is_file():
            raise _missing(sha256)
        return path

    def exists(self, sha256: str) -> bool:
        """Whether the bytes are here."""
        return self._place(sha256).is_file()

    def size(self, sha256: str) -> int:
        """Bytes of the blob; error `blob.missing`."""
        return self.local_path(sha256).stat().st_size

    def open_range(self, sha256: str, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, both included, in chunks; error `blob.missing` at once."""
        path = self._place(sha256)
        if not 0 <= first <= last + 1:
            raise InternalError("blob.range_order", f"The range {first}-{last} is not one.")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _missing(sha256) from error
        return _Range(fd, first, last + 1)

    def remove(self, sha256: str) -> None:
        """Remove the bytes, durably."""
        path = self._place(sha256)
        if path.exists():
            durable.remove(path)

    def older_than(self, age_s: float) -> Iterator[str]:
        """Digests of blobs that nobody has stored or stored again for `age_s`."""
        limit = time.time() - age_s
        for path in sorted((self._root / "sha256").glob("[0-9a-f][0-9a-f]/*")):
            if path.is_file() and path.stat().st_mtime <= limit:
                yield path.name

    def sweep(self, older_than_s: float) -> int:
        """Remove unfinished blobs that nobody has written to for `older_than_s`; returns how many."""
        limit = time.time() - older_than_s  # against the file system's own clock
        count = 0
        for path in self._incoming.iterdir():
            try:
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    count += 1
            except FileNotFoundError:
                continue  # its writer has just finished
        return count


class _Range:
    """Reads a part of an open file; the file is closed at the end, or when nobody wants the rest any more."""

    def __init__(self, fd: int, position: int, end: int) -> None:
        self._fd = fd
        self._position = position
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._position >= self._end:
            self.close()
            raise StopIteration
        chunk = os.pread(self._fd, min(_CHUNK_BYTES, self._end - self._position), self._position)
        if not chunk:
            self.close()
            raise StorageFailure("blob.damaged", "A stored file is shorter than it was.")
        self._position += len(chunk)
        return chunk

    def close(self) -> None:
        """Give the file back; may be called more than once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._end = self._position

    def __del__(self) -> None:
        self.close()


def _missing(sha256: str) -> NotFound:
    return NotFound(
        "blob.missing",
        f"The bytes of {sha256[:12]}… are not stored here.",
        hint="They may have been removed by garbage collection; upload the same file again.",
    )


def _write_failure(error: OSError) -> StorageFailure:
    return StorageFailure(
        "storage.write",
        f"Cannot store the upload: {error.strerror or error}.",
        hint="Check free space and permissions of the data folder.",
        retriable=True,
    )
