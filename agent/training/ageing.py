"""How old a sample is on a device whose clock may be wrong. Pure.

Rules: a clock that shows a time before this software existed is not believed: nothing expires by it and samples get
no time from it. A sample without a time, or with one in the future, counts as new from the first moment at which the
clock can be believed. So a clock that was wrong never keeps a sample for longer than the retention after it was right.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.ota.trusted_time import RELEASED_S

__all__ = ["aged", "stamp_s"]

_AHEAD_S = 3600.0


def stamp_s(now_s: float) -> float:
    """The time that a new sample gets; 0 when the clock cannot be believed."""
    return now_s if now_s >= RELEASED_S else 0.0


def aged(times: Mapping[int, float], now_s: float, retention_s: float) -> tuple[set[int], set[int]]:
    """Those that are too old, and those that get the time `now_s` instead of theirs."""
    if now_s < RELEASED_S:
        return set(), set()
    again = {member for member, at_s in times.items() if at_s < RELEASED_S or at_s > now_s + _AHEAD_S}
    old = {member for member, at_s in times.items() if member not in again and now_s - at_s > retention_s}
    return old, again
