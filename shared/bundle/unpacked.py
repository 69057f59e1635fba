"""The archive of an unpacked bundle, byte for byte, without making it again: read at any offset from its files.

What is read is not verified here: who needs the right bytes compares the digest of what is made of them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from types import TracebackType
from typing import Self

from shared import durable, limits
from shared.bundle.archive import parse_manifest
from shared.bundle.layout import END, MANIFEST_NAME, header, spans
from shared.errors import StorageFailure

__all__ = ["UnpackedArchive"]


class UnpackedArchive:
    """Random access to the archive that the folder was unpacked from; at most one file is open at a time."""

    def __init__(self, directory: Path) -> None:
        """Errors `bundle.malformed`, `storage.missing`, `storage.read`."""
        manifest = durable.read_file(directory / MANIFEST_NAME, limit=limits.MAX_MANIFEST_BYTES)
        self._directory = directory
        self._starts: list[int] = []
        self._pieces: list[bytes | str | None] = []  # bytes, the path of a file, or zeros
        self._open: tuple[str, int] = ("", -1)
        for span in spans(len(manifest), parse_manifest(manifest).files):
            entry = span.entry
            name, size = (MANIFEST_NAME, len(manifest)) if entry is None else (entry.path, entry.bytes)
            self._add(span.start, header(name, size))
            self._add(span.content, manifest if entry is None else entry.path)
            self._add(span.content + size, None)
            last = span.end
        self._add(last, END)
        self.size = last + len(END)
        """Length of the archive in bytes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _add(self, start: int, piece: bytes | str | None) -> None:
        self._starts.append(start)
        self._pieces.append(piece)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, which must be inside; error `storage.read`."""
        out = bytearray()
        while len(out) < size:
            at = offset + len(out)
            index = bisect_right(self._starts, at) - 1
            end = self._starts[index + 1] if index + 1 < len(self._starts) else self.size
            out += self._part(self._pieces[index], at - self._starts[index], min(end - at, size - len(out)))
        return bytes(out)

    def _part(self, piece: bytes | str | None, offset: int, size: int) -> bytes:
        if piece is None:
            return bytes(size)
        if isinstance(piece, bytes):
            return piece[offset : offset + size]
        return self._file(piece, offset, size)

    def _file(self, path: str, offset: int, size: int) -> bytes:
        try:
            if self._open[0] != path:
                self._close()
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                self._open = (path, os.open(self._directory / path, flags))
            data = os.pread(self._open[1], size, offset)
        except OSError as error:
            raise StorageFailure("storage.read", f"Cannot read {path}: {error.strerror or error}.") from error
        if not data:
            raise StorageFailure("storage.read", f"{path} is shorter than it was.")
        return data

    def _close(self) -> None:
        if self._open[1] >= 0:
            os.close(self._open[1])
        self._open = ("", -1)
