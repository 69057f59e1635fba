"""A folder that a person brought, in place of the hub: `skerry trust export` writes it, the worker reads it.

    metadata/   N.role.json and timestamp.json         targets/      bundles under their consistent-snapshot names
    assignments/<device>/<model>.json                  the hub's signed assignments

Rules: nothing is believed because it lies there: metadata goes through the same update client as the hub's, a bundle
must have the signed digest, an assignment the hub's signature. Only regular files below the folder are read, never a
link or a pipe, and each is bounded before it is read. A folder that goes away in the middle (a stick that is pulled
out) is a failure that may pass.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from agent.ota.bundle_file import appending, write
from agent.ota.downloader import Wanted
from shared import durable, limits
from shared.errors import InvalidInput, NotFound, TooLarge, Unavailable, Untrusted

__all__ = ["FolderSource", "check_bundle", "copy_bundle", "is_there", "read_assignments"]

_ASSIGNMENTS, _METADATA, _TARGETS = "assignments", "metadata", "targets"
_BLOCK_BYTES = limits.MIB
_SHOWN_COUNT = 5


def is_there(folder: Path) -> bool:
    """Whether the folder looks like an export now."""
    try:
        return (folder / _METADATA / "timestamp.json").is_file()
    except OSError:
        return False


class FolderSource:
    """Release metadata and small target files from a folder (`agent.ota.update_client.Source`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, path: str, limit: int) -> bytes:
        """The file at `path`, at most `limit` bytes; errors as of `update_client.Source`."""
        parts = unquote(path).split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise NotFound("install.no_file", f"{path[:100]} is no path in the folder.")
        below = parts if parts[0] == _TARGETS and len(parts) > 1 else [_METADATA, *parts]
        return _read(self._folder.joinpath(*below), limit)


def read_assignments(folder: Path, device_id: str) -> list[bytes]:
    """The signed assignments for this device, unverified; errors `install.no_folder`, `install.no_assignment`."""
    if not is_there(folder):
        raise NotFound(
            "install.no_folder",
            f"{folder} holds no export of a hub that the agent can read.",
            hint="Name the folder that `skerry trust export` wrote; the agent's account must be able to read it.",
        )
    own = folder / _ASSIGNMENTS / device_id
    with _reading(own):
        names = sorted(path.name for path in own.iterdir() if path.name.endswith(".json")) if own.is_dir() else []
    if not names:
        raise NotFound(
            "install.no_assignment",
            f"The folder has no assignment for this device ({device_id}){_others(folder)}.",
            hint=f"Deploy to it, then make the folder with `skerry trust export DIR --device {device_id}`.",
        )
    if len(names) > limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT:
        raise TooLarge("install.too_many", f"The folder has {len(names)} assignments for this device: too many.")
    return [_read(own / name, limits.MAX_ASSIGNMENT_BYTES) for name in names]


def _others(folder: Path) -> str:
    with _reading(folder):
        above = folder / _ASSIGNMENTS
        found = sorted(path.name for path in above.iterdir()) if above.is_dir() else []
    more = ", …" if len(found) > _SHOWN_COUNT else ""
    return f"; it has some for {', '.join(found[:_SHOWN_COUNT])}{more}" if found else ""


def check_bundle(folder: Path, target: str, wanted: Wanted) -> None:
    """Read the bundle once and hold it against what was signed; `install.no_bundle`, `download.digest_mismatch`."""
    path = _bundle(folder, target, wanted)
    try:
        for _ in _blocks(path, wanted):
            pass
    except NotFound as error:
        raise NotFound(
            "install.no_bundle",
            f"The folder has an assignment of {target}, but not the bundle.",
            hint="Make the folder again; the hub may not have the bundle any more.",
        ) from error


def copy_bundle(folder: Path, target: str, wanted: Wanted, progress: Callable[[int], None]) -> None:
    """Bring the bundle into `wanted.file`, whole and synced; errors `download.*`, `storage.*`, `install.*`."""
    for old in (wanted.file, wanted.tag_file):
        if old.exists():
            durable.remove(old)
    done = 0
    with appending(wanted.file) as file:
        for block in _blocks(_bundle(folder, target, wanted), wanted):
            write(file, block)
            done += len(block)
            progress(done)


def _bundle(folder: Path, target: str, wanted: Wanted) -> Path:
    model, _, name = target.rpartition("/")
    return folder / _TARGETS / model / f"{wanted.sha256}.{name}"


def _blocks(path: Path, wanted: Wanted) -> Iterator[bytes]:
    """The file in pieces; before the last one is given, length and digest are those that were signed."""
    digest, left = hashlib.sha256(), wanted.bytes
    with _reading(path), _regular(path) as file:
        while left:
            block = os.read(file, min(_BLOCK_BYTES, left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
            if not left and (digest.hexdigest() != wanted.sha256 or os.read(file, 1)):
                break
            yield block
        else:
            return
    raise Untrusted(
        "download.digest_mismatch",
        "The bundle in the folder is not the one that the reviewers signed.",
        hint="The copy is damaged or was changed: make the folder again.",
    )


def _read(path: Path, limit: int) -> bytes:
    with _reading(path), _regular(path) as file:
        found = bytearray()
        while block := os.read(file, min(_BLOCK_BYTES, limit + 1 - len(found))):
            found += block
            if len(found) > limit:
                raise TooLarge("trust.too_large", f"{path.name} is longer than {limit} bytes.")
        return bytes(found)


@contextmanager
def _regular(path: Path) -> Iterator[int]:
    """A descriptor of a regular file; opening never waits for a pipe's other end."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise InvalidInput("install.not_a_file", f"{path.name} in the folder is not a plain file.")
        yield file
    finally:
        os.close(file)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the file system says into `install.no_file` or `install.unreadable`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("install.no_file", f"The folder has no {path.name}.") from error
    except OSError as error:
        raise Unavailable(
            "install.unreadable",
            f"{path.name} in the folder cannot be read: {error.strerror or error}.",
            hint="Is the stick still in, and may the agent's account read it?",
            retriable=True,
        ) from error
