"""Writing a bundle to disk as it comes: appended, synced, and the disk's refusals as errors that may pass."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import durable
from shared.errors import StorageFailure

__all__ = ["appending", "sync", "write"]


@contextmanager
def appending(path: Path) -> Iterator[int]:
    """A descriptor at the end of the file; what was written is synced however the block ends."""
    try:
        created = not path.exists()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if created:
            durable.fsync_dir(path.parent)
    except OSError as error:
        raise _unstorable(error) from error
    try:
        yield file
    finally:
        try:
            sync(file)
        finally:
            os.close(file)


def write(file: int, data: bytes) -> None:
    """Write all of `data`; errors `storage.no_space`, `storage.write`."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        raise _unstorable(error) from error


def sync(file: int) -> None:
    """Make what was written durable; errors as of `write`."""
    try:
        os.fsync(file)
    except OSError as error:
        raise _unstorable(error) from error


def _unstorable(error: OSError) -> StorageFailure:
    """The disk's refusal as `storage.no_space` or `storage.write`, both retriable."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageFailure(
        "storage.no_space" if full else "storage.write",
        f"The download cannot be stored: {error.strerror or error}.",
        hint="Free some space in the data folder." if full else "",
        retriable=True,
    )
