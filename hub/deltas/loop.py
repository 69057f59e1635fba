"""The part of a running hub that makes deltas: one after the other, as soon as they are wanted.

Every hub of several does it, because a claim keeps two from making the same. A ring that is lost costs a poll's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hub.deltas.service import DeltaService

__all__ = ["DeltaLoop"]

_LOG = logging.getLogger("skerry.hub.deltas")
_POLL_S = 5.0


class DeltaLoop:
    """Makes what is wanted, until it is cancelled."""

    def __init__(self, service: DeltaService, poll_s: float = _POLL_S) -> None:
        self._service = service
        self._poll_s = poll_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()

    def wake(self) -> None:
        """Something may be wanted; from any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._rung.set)

    async def run(self) -> None:
        """Run until cancelled; what is being made then is given back."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._rung.clear()
                if not await self._made():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_s):
                            await self._rung.wait()
        finally:
            self._loop = None
            self._service.stop()

    async def _made(self) -> bool:
        try:
            return await asyncio.to_thread(self._service.make_next)
        except Exception:  # noqa: BLE001 - a defect or a database that is away must not end the hub
            _LOG.exception("deltas cannot be made now; it is tried again in %g s", self._poll_s)
            return False
