"""Which erasure of the samples was the last: a name that every erasure changes first.

What the daemon holds in memory carries the name that it saw when it came; after an erasure it is not kept.
"""

from __future__ import annotations

from pathlib import Path

from shared import durable
from shared.errors import NotFound

__all__ = ["EPOCH", "read_epoch"]

EPOCH = "epoch"
_MAX_BYTES = 64


def read_epoch(folder: Path) -> str:
    """The name of the last erasure; empty before the first. Errors `storage.read`, `storage.too_large`."""
    try:
        return durable.read_file(folder / EPOCH, limit=_MAX_BYTES).decode("ascii", "replace")
    except NotFound:
        return ""
