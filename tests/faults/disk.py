"""A file system that remembers what is durable, and the images that a power cut may leave of it.

The model is POSIX at its most pessimistic, with what ext4 (data=ordered, no barriers missing) may legally do inside it:

- What was written to a file is durable after `fsync`/`fdatasync` of that file, not before.
- A name (create, rename, unlink, mkdir, symlink) is durable after `fsync` of the folder it is in, not before, and an
  `fsync` of the file itself does not help its name. Names inside one folder become durable in the order of the calls.
- A rename within a folder is atomic. One between folders is two changes (new name, old name gone).
- A length is a file's metadata: it may be durable before the bytes are; those read as before, or as zeros.

`Cut` says what a cut takes: `kill` nothing (the process died, the kernel lived); `drop` everything that was not synced;
`short` keeps all names, but files end where their synced bytes end; `holes` keeps names and lengths, and what was not
synced reads as zeros; `torn` keeps everything but the end of the last write; `mixed` keeps, by seed, a prefix of each
folder's changes and any subset of each file's 4-kB blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.faults.trace import Op, TraceError

__all__ = ["Cut", "Disk", "Image", "digest", "materialise"]

_BLOCK = 4096
_REBUILT = "-shm"


class Cut(StrEnum):
    """How much a power cut takes."""

    KILL = "kill"
    DROP = "drop"
    SHORT = "short"
    HOLES = "holes"
    TORN = "torn"
    MIXED = "mixed"


@dataclass(eq=False, slots=True)
class _File:
    data: bytes = b""
    synced: bytes = b""
    least: int = 0
    """The smallest length since the last sync."""
    position: int = 0
    append: bool = False
    undone: tuple[bytes, int, bytes] = (b"", 0, b"")
    """The content before the last write, where that wrote, and what."""

    def resize(self, size: int) -> None:
        self.data = self.data[:size].ljust(size, b"\0")
        self.least = min(self.least, size)

    def put(self, data: bytes, offset: int) -> None:
        at = offset if offset >= 0 else len(self.data) if self.append else self.position
        self.undone = (self.data, at, data)
        padded = self.data.ljust(at, b"\0")
        self.data = padded[:at] + data + padded[at + len(data) :]
        if offset < 0:
            self.position = at + len(data)

    def sync(self) -> None:
        self.synced, self.least = self.data, len(self.data)

    def torn(self, random: Random) -> bytes:
        """The content when only the beginning of the last write came through."""
        before, at, data = self.undone
        part = data[: random.randrange(max(len(data), 1))]
        return before.ljust(at, b"\0")[:at] + part + before[at + len(part) :]


@dataclass(frozen=True, slots=True)
class _Link:
    target: str


@dataclass(eq=False, slots=True)
class _Folder:
    synced: dict[str, _Node] = field(default_factory=dict)
    changes: list[list[tuple[str, _Node | None]]] = field(default_factory=list)

    def entries(self, count: int | None = None) -> dict[str, _Node]:
        """The names after the first `count` changes since the last sync, or after all."""
        found = dict(self.synced)
        for change in self.changes[:count]:
            for name, node in change:
                found.pop(name, None)
                if node is not None:
                    found[name] = node
        return found

    def sync(self) -> None:
        self.synced, self.changes = self.entries(), []


_Node: TypeAlias = _File | _Folder | _Link
Image: TypeAlias = Mapping[str, bytes | str | None]
"""Paths with a file's bytes, a symbolic link's target, or None for a folder."""


class Disk:
    """One folder's file system: what is written, and what of it would survive."""

    def __init__(self, root: Path) -> None:
        """Everything that is in `root` now is durable."""
        self._root = _read(root)

    def apply(self, op: Op) -> None:
        """Do one operation."""
        match op.call:
            case "create":
                self._create(op)
            case "write":
                self._file(op.path).put(op.data, op.offset)
            case "truncate":
                self._file(op.path).resize(op.size)
            case "sync":
                node = self._find(op.path)
                if isinstance(node, _Link):
                    raise TraceError(f"a link was synced: {op}")
                node.sync()
            case "rename":
                self._rename(op)
            case "link":
                self._change(op.path, self._find(op.other))
            case "unlink" | "rmdir":
                self._change(op.path, None)
            case "mkdir":
                self._change(op.path, _Folder())
            case "symlink":
                self._change(op.path, _Link(op.other))
            case "mark":
                return
            case unknown:
                raise TraceError(f"the model does not know {unknown}")

    def image(self, cut: Cut, random: Random, last: Op | None = None) -> Image:
        """What a cut now leaves; `last` is the operation before it (for `torn`)."""
        found: dict[str, bytes | str | None] = {}
        self._collect(self._root, "", cut, random, found)
        if cut is Cut.TORN and last is not None and last.call == "write":
            found[last.path] = self._file(last.path).torn(random)
        return found

    def _collect(
        self, folder: _Folder, base: str, cut: Cut, random: Random, found: dict[str, bytes | str | None]
    ) -> None:
        kept = {Cut.DROP: 0, Cut.MIXED: random.randint(0, len(folder.changes))}.get(cut)
        for name, node in folder.entries(kept).items():
            path = f"{base}{name}"
            if isinstance(node, _Folder):
                found[path] = None
                self._collect(node, f"{path}/", cut, random, found)
            else:
                found[path] = node.target if isinstance(node, _Link) else _content(node, cut, random)

    def _create(self, op: Op) -> None:
        folder, name = self._parent(op.path)
        node = folder.entries().get(name)
        if isinstance(node, _Folder):
            return
        if node is None:
            node = _File()
            folder.changes.append([(name, node)])
        if isinstance(node, _Link):
            raise TraceError(f"a file was opened through a link: {op}")
        node.position, node.append = 0, op.append
        if op.truncate:
            node.resize(0)

    def _rename(self, op: Op) -> None:
        node = self._find(op.path)
        (source, old), (target, new) = self._parent(op.path), self._parent(op.other)
        if source is target:
            source.changes.append([(old, None), (new, node)])
        else:
            target.changes.append([(new, node)])
            source.changes.append([(old, None)])

    def _change(self, path: str, node: _Node | None) -> None:
        folder, name = self._parent(path)
        folder.changes.append([(name, node)])

    def _find(self, path: str) -> _Node:
        node: _Node = self._root
        for part in path.split("/") if path else []:
            entries = node.entries() if isinstance(node, _Folder) else {}
            if part not in entries:
                raise TraceError(f"the model has no {path}")
            node = entries[part]
            if isinstance(node, _Link) and part != path.rpartition("/")[2]:
                node = self._find(node.target)
        return node

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if not isinstance(node, _File):
            raise TraceError(f"{path} is not a file in the model")
        return node

    def _parent(self, path: str) -> tuple[_Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self._find(parent)
        if not isinstance(folder, _Folder):
            raise TraceError(f"{parent} is not a folder in the model")
        return folder, name


def _content(file: _File, cut: Cut, random: Random) -> bytes:
    match cut:
        case Cut.KILL | Cut.TORN:
            return file.data
        case Cut.DROP:
            return file.synced
        case Cut.SHORT:
            return file.synced[: file.least]
        case Cut.HOLES:
            return file.synced[: file.least].ljust(len(file.data), b"\0")[: len(file.data)]
        case Cut.MIXED:
            return _mixed(file, random)


def _mixed(file: _File, random: Random) -> bytes:
    """Each block either as it is or as it was."""
    if file.data == file.synced or random.random() < 0.25:
        return file.synced
    old = file.synced[: file.least].ljust(len(file.data), b"\0")
    starts = range(0, len(file.data), _BLOCK)
    return b"".join((file.data if random.random() < 0.5 else old)[at : at + _BLOCK] for at in starts)[: len(file.data)]


def _read(root: Path) -> _Folder:
    folder = _Folder()
    for path in sorted(root.iterdir()):
        if path.is_symlink():
            folder.synced[path.name] = _Link(str(path.readlink()))
        elif path.is_dir():
            folder.synced[path.name] = _read(path)
        elif path.is_file():
            data = path.read_bytes()
            folder.synced[path.name] = _File(data, data, len(data))
    return folder


def digest(image: Image) -> str:
    """The same for images that nothing can tell apart."""
    found = hashlib.sha256()
    for path, content in sorted(image.items()):
        if not path.endswith(_REBUILT):
            kind = "d" if content is None else "l" if isinstance(content, str) else "f"
            data = b"" if content is None else content.encode() if isinstance(content, str) else content
            found.update(f"{path}\0{kind}{len(data)}\0".encode() + data)
    return found.hexdigest()


def materialise(image: Image, root: Path) -> None:
    """Write an image into the new folder `root`."""
    root.mkdir(parents=True)
    for path, content in image.items():
        where = root / path
        if content is None:
            where.mkdir(mode=0o700)
        elif isinstance(content, str):
            where.symlink_to(content)
        else:
            where.write_bytes(content)
            where.chmod(0o600)
