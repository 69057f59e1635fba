"""Keeps the agent's parts running: a part that fails is reported and started again with back-off; the others go on.

A failure is reported when it is new, and while it goes on at its 2nd, 4th, 8th, … time with the count: a part that
fails all night costs a dozen messages.

Predictions are served by one part, and no failure of another may end them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent.ota.backoff import Backoff, delay_s
from shared.clock import Clock
from shared.errors import SkerryError
from shared.wire.up import Event

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
_STEADY_S = 300.0


class Supervisor:
    """Runs parts for ever. `report` takes an event about each failure; `random` gives numbers in [0, 1)."""

    def __init__(
        self, report: Callable[[Event], None], clock: Clock, random: Callable[[], float], retry: Backoff | None = None
    ) -> None:
        self._report = report
        self._clock = clock
        self._random = random
        self._retry = retry or Backoff(base_s=1.0, cap_s=300.0)

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a part until cancelled, again and again."""
        attempt, told = 0, ""
        while True:
            began_s = self._clock.monotonic()
            try:
                await run()
                why = "ended by itself"
            except Exception as error:  # noqa: BLE001 - whatever it was, the other parts go on
                _log.exception("%s failed", name)
                why = str(error) if isinstance(error, SkerryError) else _describe(error)
            attempt = 1 if self._clock.monotonic() - began_s >= _STEADY_S else attempt + 1
            if why != told or attempt & (attempt - 1) == 0:
                told = why
                message = f"The agent's {name} failed and is started again: {why}"[:500]
                self._report(Event(code="agent.part_failed", severity="error", message=message, count=attempt))
            await asyncio.sleep(delay_s(self._retry, attempt, self._random()))


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_describe(part) for part in error.exceptions)
    return f"{type(error).__name__}: {error}"
