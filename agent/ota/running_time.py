"""Notes now and then that time has passed while the agent ran, so that a device without a clock does not forget it.

The floor of the trusted time (`agent.ota.trusted_time`) grows at every check of an assignment; a device that is
assigned nothing for weeks, and then switched off, would lose those weeks. Rules: only what was verified once grows, and
only by the kernel's count of running time, never by the clock; a write every quarter of an hour, durable; a check of an
assignment under way notes it itself, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.identity.store import IdentityStore
from agent.lock import exclusive
from agent.ota.metadata_store import MetadataStore, read_floor
from agent.ota.threads import in_thread
from agent.ota.trusted_time import RELEASED_S, Uptime, least_s, system_uptime
from shared.errors import Unavailable

__all__ = ["NOTE_S", "RunningTime"]

NOTE_S = 900.0


class RunningTime:
    """The floor in one folder of release metadata."""

    def __init__(
        self,
        directory: Path,
        store: IdentityStore,
        *,
        every_s: float = NOTE_S,
        uptime: Callable[[], Uptime] = system_uptime,
    ) -> None:
        self._directory = directory
        self._store = store
        self._every_s = every_s
        self._uptime = uptime

    async def run(self) -> None:
        """Note it again and again until cancelled; `storage.write` when the disk does not take it."""
        while True:
            await asyncio.sleep(self._every_s)
            await in_thread(self.note)

    def note(self) -> bool:
        """Note it now; whether there was anything to note, and nobody else in the folder."""
        if not self._directory.is_dir():
            return False
        try:
            with exclusive(self._directory, wait=False):
                floor, up = read_floor(self._directory), self._uptime()
                if not floor.verified_s:
                    return False
                known_s = max(self._store.validity().not_before_s, RELEASED_S)
                changed = msgspec.structs.replace(
                    floor, verified_s=least_s(floor, up, known_s), uptime_s=up.seconds, boot=up.boot
                )
                MetadataStore(self._directory).save_floor(changed)
        except Unavailable:
            return False
        return True
