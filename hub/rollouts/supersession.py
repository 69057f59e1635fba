"""Which of two rollouts of the same model a device follows. Pure; per device, so a stuck rollout never blocks.

A device follows the rollout with the higher priority; among equals the newer one. What outranks takes the device when
it assigns it, not before: until then the other may still serve it.
"""

from __future__ import annotations

__all__ = ["outranks"]


def outranks(priority: int, created_s: float, other_priority: int, other_created_s: float) -> bool:
    """Whether the first rollout may take a device that the other one has assigned."""
    return (priority, created_s) > (other_priority, other_created_s)
