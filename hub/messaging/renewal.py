"""Notices when certificate files have been made again, so that a hub which runs for a year still shows a valid one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

__all__ = ["watch_file"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 600.0


async def watch_file(path: Path, on_change: Callable[[], None], look_s: float = _LOOK_S) -> None:
    """Call `on_change` whenever the content of `path` has changed, looking every `look_s`; runs until cancelled."""
    seen = _digest(path)
    while True:
        await asyncio.sleep(look_s)
        try:
            now = _digest(path)
            if now != seen:
                on_change()
                seen = now
        except OSError as error:
            _LOG.warning("%s cannot be read: %s", path.name, error.strerror or error)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
