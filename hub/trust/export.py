"""A static copy of the repository for mirrors, USB sticks and independent TUF clients.

`metadata/` holds every `N.role.json` and `timestamp.json`, `targets/` the files under their consistent-snapshot names.
Written so that a client which reads while it is being written sees the old state or the new one: targets first, then
metadata from the root down, and `timestamp.json` last.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from hub.store.trust import PublishedMetadata
from shared import durable

__all__ = ["target_file", "write_export"]


def target_file(directory: Path, path: str, sha256: str) -> Path:
    """Where the file of a target path lies in an exported repository."""
    folder, _, name = path.rpartition("/")
    return directory / "targets" / folder / f"{sha256}.{name}"


def write_export(
    directory: Path,
    metadata: Iterable[PublishedMetadata],
    bundles: Mapping[tuple[str, str], Path],
    files: Mapping[tuple[str, str], bytes],
) -> None:
    """Write the repository. `bundles` and `files` are given by (target path, sha256); what is there already stays."""
    for (path, digest), source in bundles.items():
        target = target_file(directory, path, digest)
        if not target.exists():
            durable.make_dir(target.parent, 0o755)
            _copy(source, target)
    for (path, digest), data in files.items():
        target = target_file(directory, path, digest)
        durable.make_dir(target.parent, 0o755)
        durable.write_file(target, data, mode=0o644)
    folder = directory / "metadata"
    durable.make_dir(folder, 0o755)
    for row in metadata:
        name = "timestamp.json" if row.role == "timestamp" else f"{row.version}.{row.role}.json"
        durable.write_file(folder / name, row.data, mode=0o644)


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".tmp-{target.name}")
    with source.open("rb") as reader, unfinished.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())
    durable.rename(unfinished, target)
