"""The work of `held`: wait until the version may be activated, and run it as a shadow if that is what the hub wants.

Rules: what is active is never touched. The clock is looked at again and again, at least every `held_tick_s`, because it
may be set meanwhile; so is the assignment, because a newer one for the same bundle may come (`renewed`). What it waits
for stands in the journal as the reason, and the hub is told when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC

from agent.ota.installation import Installation
from agent.ota.waiting import Waiting, mode_of, waiting, window_of
from shared.errors import Conflict, InternalError
from shared.wire.down import Assignment

__all__ = ["Holding"]


class Holding:
    """Waits for one model."""

    def __init__(self, install: Installation) -> None:
        self._install = install
        self.renewed = asyncio.Event()
        """Set when the journal's assignment changed."""

    def now(self) -> Waiting:
        """What the version waits for at this moment; errors `schedule.*`."""
        context, assignment = self._install.context, self._assignment
        replaces = self._install.slots.active() is not None
        default = context.profile.maintenance_window if context.settings.profile_window and replaces else None
        window = window_of(assignment, default)
        zone = UTC if window is None else context.zone()
        return waiting(assignment, window, context.clock.now(), zone)

    async def until_over(self) -> None:
        """Return when the version may be activated; errors `schedule.*`, `shadow.*`."""
        while True:
            self.renewed.clear()
            found = self.now()
            if found.over:
                return
            await self._note(found)
            if mode_of(self._assignment) == "shadow":
                await self._run_shadow()
            else:
                await self._wait(found)

    async def _wait(self, found: Waiting) -> None:
        context = self._install.context
        wait_s = context.settings.held_tick_s
        if found.until_s is not None:
            wait_s = min(wait_s, max(found.until_s - context.clock.now(), 0.01))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.renewed.wait()

    async def _run_shadow(self) -> None:
        install = self._install
        if install.context.shadow is None:
            raise Conflict("shadow.not_supported", "This agent cannot run a candidate beside what serves.")
        directory = install.slots.directory(install.journal.slot)
        await install.context.shadow.run(install.model, directory, self._assignment, self.renewed)

    async def _note(self, found: Waiting) -> None:
        journal = self._install.journal
        if (journal.reason_code, journal.reason) != (found.code, found.reason):
            await self._install.amend(reason_code=found.code, reason=found.reason)
            self._install.report()

    @property
    def _assignment(self) -> Assignment:
        found = self._install.journal.assignment
        if found is None:
            raise InternalError("journal.damaged", "The journal names no assignment.")
        return found
