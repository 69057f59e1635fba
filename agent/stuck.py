"""Gets rid of a prediction that hangs in a thread of its own, where the loop and its guard do not notice it.

A thread cannot be ended from outside, so the agent ends itself in order and is started anew by whoever supervises it,
but waits some time for the installations to come to rest: a version on probation is first rolled back, so that the
next start serves the version before. `agent.ota.probation` gives its prediction up much sooner; in any other state that
happens after `limit_s`, the limit of the event loop too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

__all__ = ["StuckGuard"]

_LOOK_S = 1.0
_PATIENCE_S = 120.0


class _Host(Protocol):
    def models(self) -> list[str]: ...
    def under_way_s(self, model: str) -> float: ...
    def give_up(self, model: str) -> None: ...
    def stuck(self) -> bool: ...


class StuckGuard:
    """`resting`: whether nothing is being installed. `end`: ends the agent in order, for the reason given."""

    def __init__(
        self,
        host: _Host,
        limit_s: float,
        resting: Callable[[], bool],
        end: Callable[[str], None],
        look_s: float = _LOOK_S,
    ) -> None:
        self._host = host
        self._limit_s = limit_s
        self._resting = resting
        self._end = end
        self._look_s = look_s

    async def run(self) -> None:
        """Look again and again until cancelled."""
        given_up: set[str] = set()
        stuck_s = 0.0
        while True:
            await asyncio.sleep(self._look_s)
            for model in self._host.models():
                if self._host.under_way_s(model) <= self._limit_s:
                    given_up.discard(model)
                elif model not in given_up:
                    given_up.add(model)
                    self._host.give_up(model)
            stuck_s = stuck_s + self._look_s if self._host.stuck() else 0.0
            if stuck_s and (self._resting() or stuck_s > _PATIENCE_S):
                self._end("A prediction hangs in its thread; the agent ends to get rid of it, and is started again.")
                await asyncio.get_running_loop().create_future()
