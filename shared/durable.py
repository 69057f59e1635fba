"""Files that survive a power cut: temporary file, fsync, `os.replace`, fsync of the directory.

At every instant a reader finds either the whole old content or the whole new one. Leftover temporaries
(`.tmp-*` beside the file) are harmless and are removed by `sweep`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from shared.errors import NotFound, StorageFailure, TooLarge

__all__ = ["append", "fsync_dir", "make_dir", "read_file", "remove", "rename", "sweep", "write_file"]

_TEMPORARY = ".tmp-"


def fsync_dir(path: Path) -> None:
    """Make renames and removals inside `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_dir(path: Path, mode: int = 0o700) -> None:
    """Make `path` and its missing parents, durably; error `storage.make_dir`."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_dir(path.parent, mode)
    try:
        path.mkdir(mode=mode, exist_ok=True)
        fsync_dir(path.parent)
    except OSError as error:
        raise StorageFailure(
            "storage.make_dir",
            f"Cannot make the folder {path}: {error.strerror or error}.",
            hint="Choose another folder, or give yourself the right to write there.",
            retriable=True,
        ) from error


def write_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path` atomically, durably; `StorageFailure` (`storage.write`) leaves the old content."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{secrets.token_hex(4)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)
    except OSError as error:
        raise StorageFailure(
            "storage.write",
            f"Cannot write {path.name}: {error.strerror or error}.",
            hint="Check free space and permissions of the data folder.",
            retriable=True,
        ) from error


def append(path: Path, data: bytes) -> None:
    """Add to the end of an existing file, durably. A cut may leave a part of `data`; `storage.write` leaves none."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageFailure(
            "storage.write",
            f"Cannot add to {path.name}: {error.strerror or error}.",
            hint="Check free space and permissions of the data folder.",
            retriable=True,
        ) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_file(path: Path, *, limit: int) -> bytes:
    """The bytes of `path`, at most `limit`; errors `storage.missing`, `storage.too_large`, `storage.read`."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise NotFound("storage.missing", f"{path.name} does not exist.") from error
    except OSError as error:
        raise StorageFailure("storage.read", f"Cannot read {path.name}: {error.strerror or error}.") from error
    if len(data) > limit:
        raise TooLarge("storage.too_large", f"{path.name} is larger than {limit} bytes.")
    return data


def rename(source: Path, target: Path) -> None:
    """Move `source` to `target` on the same file system, atomically and durably."""
    try:
        os.replace(source, target)
        fsync_dir(target.parent)
        if source.parent != target.parent:
            fsync_dir(source.parent)
    except OSError as error:
        raise StorageFailure("storage.rename", f"Cannot move {source.name}: {error.strerror or error}.") from error


def remove(path: Path) -> None:
    """Remove a file if it is there, durably."""
    try:
        path.unlink(missing_ok=True)
        fsync_dir(path.parent)
    except OSError as error:
        raise StorageFailure("storage.remove", f"Cannot remove {path.name}: {error.strerror or error}.") from error


def sweep(directory: Path) -> int:
    """Remove the temporaries that a cut left in `directory`; returns how many."""
    found = [entry for entry in directory.iterdir() if entry.name.startswith(_TEMPORARY)]
    for entry in found:
        entry.unlink(missing_ok=True)
    return len(found)
