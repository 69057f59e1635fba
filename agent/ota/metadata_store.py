"""The files of the release metadata on the device: one per role, small targets, the first root, and the floor.

Rules: every write is atomic and durable; what cannot be read counts as missing, because it can be fetched again, and
the floor and the first root are files of their own, so that no single damage loses the trust anchor or lets older
metadata in. Names of roles are quoted, so that none of them leaves the folder. A root that a person or the enrolment
puts in place (`anchor`) is the new first root, and nothing that was known under another one counts any more.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

from agent.ota import sealed
from agent.ota.floor import Floor
from shared import durable, limits
from shared.errors import NotFound, StorageFailure, TooLarge

__all__ = ["LARGEST_BYTES", "MetadataStore"]

LARGEST_BYTES = limits.MAX_TARGETS_BYTES
_FLOOR = "rollback.floor"  # No role's file can have this name: those end in .json.
_FIRST_ROOT = "root.first"
_ROOT = "root"
_FLOOR_BYTES = 4 * limits.MIB


class MetadataStore:
    """Reads and writes one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        durable.make_dir(directory)
        durable.sweep(directory)

    @property
    def targets(self) -> Path:
        """The folder of small target files."""
        return self._directory / "targets"

    def read(self, role: str) -> bytes | None:
        """A role's metadata as it was received; None when there is none that can be read."""
        return read_file(self._file(role))

    def write(self, role: str, data: bytes) -> None:
        """Keep a role's verified metadata."""
        durable.write_file(self._file(role), data)

    def first_root(self) -> bytes | None:
        """The root that this device started from."""
        return read_file(self._directory / _FIRST_ROOT)

    def keep_first_root(self, data: bytes) -> None:
        """Note the root that this device starts from, unless one is noted that can be read."""
        if self.first_root() is None:
            durable.write_file(self._directory / _FIRST_ROOT, data)

    def start_from(self, data: bytes) -> None:
        """Make this the root of trust; if another one was, nothing that is known under it stays.

        Not even the floor: the versions are another repository's, and below them nothing of this one would ever count.
        """
        if data in (self.read(_ROOT), self.first_root()):
            return
        for path in sorted(self._directory.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                durable.remove(path)
        self.write(_ROOT, data)

    def anchor(self, data: bytes) -> None:
        """Start anew from this root."""
        durable.remove(self._directory / _FLOOR)
        durable.write_file(self._directory / _FIRST_ROOT, data)
        self.write(_ROOT, data)

    def load_floor(self) -> Floor:
        """The floor; an empty one when it is missing or damaged."""
        return read_floor(self._directory)

    def save_floor(self, floor: Floor) -> None:
        """Write the floor."""
        sealed.save(self._directory / _FLOOR, floor)

    def _file(self, role: str) -> Path:
        return self._directory / f"{quote(role, '')}.json"


def read_floor(directory: Path) -> Floor:
    """The floor in a folder, which need not exist; nothing is written."""
    try:
        return sealed.load(directory / _FLOOR, Floor, limit=_FLOOR_BYTES)
    except (NotFound, TooLarge, StorageFailure):
        return Floor()


def read_file(path: Path) -> bytes | None:
    """The file, or None when it is missing or unreadable: what cannot be read is fetched again."""
    try:
        return durable.read_file(path, limit=LARGEST_BYTES)
    except (NotFound, TooLarge, StorageFailure):
        return None
