"""Where a delta reads the old bundle: anything that gives bytes at an offset, and a bundle's file as such."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from shared.errors import NotFound, StorageFailure

__all__ = ["ArchiveFile", "Source"]


class Source(Protocol):
    """The old bundle. `size`: its length in bytes."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, which are inside; errors `storage.*`."""
        ...


class ArchiveFile:
    """A bundle's own file."""

    def __init__(self, path: Path) -> None:
        """Errors `storage.missing`, `storage.read`."""
        self._name = path.name
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound("storage.missing", f"{path.name} does not exist.") from error
        except OSError as error:
            raise StorageFailure("storage.read", f"Cannot read {path.name}: {error.strerror or error}.") from error
        self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; error `storage.read`."""
        out = b""
        while len(out) < size:
            try:
                part = os.pread(self._fd, size - len(out), offset + len(out))
            except OSError as error:
                raise StorageFailure("storage.read", f"Cannot read {self._name}: {error.strerror or error}.") from error
            if not part:
                raise StorageFailure("storage.read", f"{self._name} is shorter than it was.")
            out = part if not out else out + part
        return out
