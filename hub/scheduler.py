"""Periodic work that one hub of several does: re-signing metadata, re-issuing assignments, clean-up.

The hub that holds the lease runs the tasks; the others wait for it to run out. Every task is idempotent, because a
lease can be lost in the middle of one (a paused process). A task that fails is logged and tried again at its next
turn; it stops neither the others nor the hub.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.store import leases
from hub.store.database import Database
from shared.clock import Clock

__all__ = ["PeriodicTask", "Scheduler"]

_LOG = logging.getLogger("skerry.hub.scheduler")
_LEASE = "scheduler"


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """`run` is called in a thread, at once and then every `interval_s` after it has ended."""

    name: str
    interval_s: float
    run: Callable[[], object]


class Scheduler:
    """Runs tasks while it holds the lease. `lease_s`: how long others wait after this hub has died."""

    def __init__(
        self, db: Database, clock: Clock, tasks: Sequence[PeriodicTask], *, holder: str = "", lease_s: float = 30.0
    ) -> None:
        self._db = db
        self._clock = clock
        self._tasks = tuple(tasks)
        self._holder = holder or f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
        self._lease_s = lease_s
        self._leading = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether this hub holds the lease, as far as it knows."""
        return self._leading.is_set()

    async def run(self) -> None:
        """Run until cancelled; the lease is given back then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_lease(), name="scheduler-lease")
                for task in self._tasks:
                    group.create_task(self._repeat(task), name=f"scheduler-{task.name}")
        finally:
            self._leading.clear()
            await asyncio.to_thread(self._release)

    async def _keep_lease(self) -> None:
        while True:
            try:
                mine = await asyncio.to_thread(self._take)
            except Exception:  # noqa: BLE001 - whatever it was, without an answer the lease counts as lost
                _LOG.exception("cannot ask for the lease")
                mine = False
            if mine != self.leading:
                _LOG.info("this hub %s the singleton work", "does" if mine else "no longer does")
            if mine:
                self._leading.set()
            else:
                self._leading.clear()
            await asyncio.sleep(self._lease_s / 3)

    async def _repeat(self, task: PeriodicTask) -> None:
        while True:
            await self._leading.wait()
            try:
                await asyncio.to_thread(task.run)
            except Exception:  # noqa: BLE001 - one task's defect must not end the others
                _LOG.exception("the task %s failed; it is tried again in %g s", task.name, task.interval_s)
            await asyncio.sleep(task.interval_s)

    def _take(self) -> bool:
        now = self._clock.now()
        with self._db.write_rows() as connection:
            return leases.take(connection, _LEASE, self._holder, now, now + self._lease_s)

    def _release(self) -> None:
        with self._db.write_rows() as connection:
            leases.release(connection, _LEASE, self._holder)
