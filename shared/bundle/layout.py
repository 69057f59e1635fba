"""Where everything stands in the archive: blocks, and the offsets of each file. Pure.

One value has one archive, so the manifest alone says at which offset every header, file and padding begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.bundle.manifest import FileEntry

__all__ = ["BLOCK", "END", "MANIFEST_NAME", "Span", "header", "padding", "spans"]

MANIFEST_NAME = "manifest.json"
BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Span:
    """One file of the archive, from its header (`start`) over its bytes (`content`) to the end of its padding.

    entry: None for the manifest itself.
    """

    entry: FileEntry | None
    start: int
    content: int
    end: int


def header(name: str, size: int) -> bytes:
    """The ustar header of a file, with fixed fields."""
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,  # the checksum is computed over spaces
        b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """How many zeros follow a file of that many bytes."""
    return -size % BLOCK


def spans(manifest_bytes: int, files: Sequence[FileEntry]) -> list[Span]:
    """The manifest and the files in the archive's order, without gaps; `END` follows the last."""
    found: list[Span] = []
    at = 0
    for entry, size in [(None, manifest_bytes), *((entry, entry.bytes) for entry in files)]:
        content = at + BLOCK
        end = content + size + padding(size)
        found.append(Span(entry, at, content, end))
        at = end
    return found
