"""Ends the agent when its event loop has stopped, so that whoever supervises it starts it anew.

A model may hang the runtime in the middle of a prediction that its trial could not foresee. The loop then serves
nobody, and only a new process helps; the install machine counts such ends and returns to the version before. The timer
is the standard library's, which needs neither the loop nor the interpreter's lock, and says where every thread was.
"""

from __future__ import annotations

import asyncio
import faulthandler

__all__ = ["HangGuard"]

_MARGIN = 4


class HangGuard:
    """While it runs, a loop that stands still for `limit_s` seconds ends the process with exit code 1."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    async def run(self) -> None:
        """Wind the timer again and again until cancelled."""
        try:
            while True:
                faulthandler.dump_traceback_later(self._limit_s, exit=True)
                await asyncio.sleep(self._limit_s / _MARGIN)
        finally:
            faulthandler.cancel_dump_traceback_later()
