"""The part of a running hub that does federated runs: it begins those that are due, and looks after those that go on.

Only the hub that holds the lease of singleton work does it. What a hub that has died, or lost the lease, was doing is
gone on with from its last complete round. A run that could not go on here for a passing reason is tried again after a
pause; one that finds its port taken for long fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from hub.federated.conductor import Conductor
from hub.federated.stage import Stage
from hub.store import federated as store
from hub.store.federated import RunRow

__all__ = ["RunLoop"]

_LOG = logging.getLogger("skerry.hub.federated")
_IDLE_S = 5.0
_BUSY_S = 1.0
_JOIN_S = 20.0
_AGAIN_S = 5.0
_PORT, _PORT_TRIES = "federated.port", 12


class RunLoop:
    """Runs until it is cancelled. at_once: how many runs go on at the same time, each on a port of its own."""

    def __init__(self, stage: Stage, at_once: int) -> None:
        self._stage = stage
        self._at_once = at_once
        self._lock = threading.Lock()
        self._working: dict[str, Conductor] = {}
        self._not_before: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()

    # --- from any thread ----------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """There may be something to do."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(self._rung.set)

    def cut_off(self, device_id: str) -> None:
        """A device was revoked, or enrols again: it is out of every run at once."""
        for conductor in self._conductors():
            conductor.remove(device_id)

    def enrolled(self, _device_id: str) -> None:
        """A device has come."""
        for conductor in self._conductors():
            conductor.soon()
        self.wake()

    # --- the hub's own ------------------------------------------------------------------------------------------------
    async def run(self, leading: Callable[[], bool]) -> None:
        """Run until cancelled; workers end then, and their runs can go on elsewhere. leading: does this hub do it?"""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._rung.clear()
                busy = await self._stepped(leading())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BUSY_S if busy else _IDLE_S):
                        await self._rung.wait()
        finally:
            self._loop = None
            await asyncio.to_thread(self._end)

    async def _stepped(self, leading: bool) -> bool:
        try:
            return await asyncio.to_thread(self.step, leading)
        except Exception:  # noqa: BLE001 - a defect or a database that is away must not end the hub
            _LOG.exception("federated runs cannot be looked after now; it is tried again in %g s", _BUSY_S)
            return True

    def step(self, leading: bool) -> bool:
        """Look once; True while there is something that goes on or waits. Blocks on the database."""
        self._sweep()
        if not leading:
            for conductor in self._conductors():
                conductor.stop()
            return bool(self._working)
        with self._stage.db.read() as connection:
            rows = store.open_runs(connection)
        for row in rows:
            self._begin(row)
        for conductor in self._conductors():
            self._tick(conductor)
        return bool(rows)

    @staticmethod
    def _tick(conductor: Conductor) -> None:
        try:
            conductor.tick()
        except Exception:  # noqa: BLE001 - what is wrong with one run must not keep the others from being looked after
            _LOG.exception("the run %s cannot be looked after now", conductor.run_id)

    def _sweep(self) -> None:
        """Forget those that have ended; one that was left is taken up again after a pause."""
        now = self._stage.clock.monotonic()
        with self._lock:
            for run_id in [run_id for run_id, conductor in self._working.items() if not conductor.alive]:
                left = self._working.pop(run_id).left
                if left:
                    self._not_before[run_id] = now + _AGAIN_S
                self._tries[run_id] = self._tries.get(run_id, 0) + 1 if left == _PORT else 0
            self._tries = {run_id: tries for run_id, tries in self._tries.items() if tries}
            self._not_before = {run_id: at for run_id, at in self._not_before.items() if at > now}

    def _begin(self, row: RunRow) -> None:
        with self._lock:
            full = len(self._working) >= self._at_once
            if self._stopped or full or row.run_id in self._working or row.run_id in self._not_before:
                return
            taken = {conductor.port for conductor in self._working.values()}
            port = next(p for p in range(self._stage.places.port, 65_536) if p not in taken)
            conductor = self._working[row.run_id] = Conductor(
                self._stage, row, port, self.wake, last_try=self._tries.get(row.run_id, 0) >= _PORT_TRIES
            )
            conductor.start()

    def _conductors(self) -> list[Conductor]:
        with self._lock:
            return list(self._working.values())

    def _end(self) -> None:
        with self._lock:
            self._stopped = True
        if self._stage.handover is not None:
            self._stage.handover.stop()
        for conductor in self._conductors():
            conductor.stop()
        for conductor in self._conductors():
            conductor.join(_JOIN_S)
