"""Engine time: the seconds during which the hub ticked, from a wall clock that may jump.

Rules: a tick adds what the wall clock moved. A step that is longer than `MAX_STEP_S` or goes back means that the clock
was set, or that the hub was away: it adds nothing, and that tick assigns nothing. Nothing that a fleet would feel is
done for the hour alone (an end time) until the clock has been steady for `SETTLE_S`. A clock that is before the
rollout's creation is wrong, and nothing is assigned until it is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.rollouts.state import EngineClock

__all__ = ["MAX_STEP_S", "SETTLE_S", "Step", "advance"]

MAX_STEP_S = 300
SETTLE_S = 600
_EARLY_S = 300
"""A clock may be set back this far behind the creation, as time synchronisation does, without being called wrong."""


@dataclass(frozen=True, slots=True)
class Step:
    """`steady`: the clock moved as clocks do. `sane`: it is not before the rollout's creation."""

    clock: EngineClock
    elapsed_s: int
    steady: bool
    sane: bool

    @property
    def settled(self) -> bool:
        """Whether the clock has been steady for some time."""
        jumped_s = self.clock.jumped_s
        return self.steady and (jumped_s is None or self.clock.elapsed_s - jumped_s >= SETTLE_S)


def advance(clock: EngineClock, now_s: int, created_s: int) -> Step:
    """The clock at this tick. The first tick of a rollout starts its clock."""
    moved = now_s - clock.wall_s if clock.wall_s else 0
    steady = 0 <= moved <= MAX_STEP_S
    elapsed = moved if steady else 0
    return Step(
        clock=EngineClock(
            wall_s=now_s,
            elapsed_s=clock.elapsed_s + elapsed,
            jumped_s=clock.jumped_s if steady else clock.elapsed_s,
        ),
        elapsed_s=elapsed,
        steady=steady,
        sane=now_s >= created_s - _EARLY_S,
    )
