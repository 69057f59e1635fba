"""What the wall clock showed at a moment of engine time, so that "not heard of since" means time in which the hub ran.

Devices' last signs carry the wall clock. A hub that was away for a week, or whose clock was set, must not take every
device for silent: the moment that lies so much *engine* time back is looked up in marks that were made then. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.rollouts.plan import Plan
from hub.rollouts.state import EngineClock
from hub.rollouts.timing import observe_s

__all__ = ["heard_since", "marks_after"]

_PARTS = 32
Mark = tuple[int, int]


def heard_since(marks: Sequence[Mark], elapsed_s: int) -> float | None:
    """The wall clock at engine time `elapsed_s` or just before; None: nobody knows, because it was too early."""
    found = None
    for engine_s, wall_s in marks:
        if engine_s <= elapsed_s:
            found = float(wall_s)
    return found


def marks_after(marks: Sequence[Mark], plan: Plan, clock: EngineClock) -> tuple[Mark, ...]:
    """The marks with one for now, if the last is old enough, without those that nobody will ask for again."""
    longest_s = max(observe_s(plan, group) for group in plan.groups)
    step_s = max(60, min(observe_s(plan, group) for group in plan.groups) // _PARTS)
    kept = list(marks)
    if not kept or clock.elapsed_s - kept[-1][0] >= step_s:
        kept.append((clock.elapsed_s, clock.wall_s))
    while len(kept) > 1 and kept[1][0] <= clock.elapsed_s - longest_s:
        kept.pop(0)
    return tuple(kept)
