"""The engine: `tick(rollout, counts, now_s) -> Tick`. Pure and idempotent."""

from __future__ import annotations

from hub.rollouts.state import Command, Counts, Rollout, Tick

__all__ = ["command", "tick"]


def tick(rollout: Rollout, counts: Counts, now_s: int) -> Tick:
    """What to do now. `now_s`: the wall clock, seconds since 1970."""
    raise NotImplementedError


def command(rollout: Rollout, asked: Command, counts: Counts, now_s: int) -> Tick:
    """Apply what a person asked; `Conflict` (`rollout.state`) when the rollout cannot do that now."""
    raise NotImplementedError
