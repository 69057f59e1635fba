"""Times that the store's counts and the tick must agree on. All in seconds of engine time; whole numbers."""

from __future__ import annotations

from hub.rollouts.plan import Group, Plan, Retry
from shared.schedule import longest_closed_s, parse_schedule

__all__ = ["MAX_BACKOFF_S", "START_GRACE_S", "backoff_s", "observe_s"]

START_GRACE_S = 120
"""A device that was assigned within this time counts as about to download."""

MAX_BACKOFF_S = 7 * 86400
"""The longest wait between two attempts."""


def observe_s(plan: Plan, group: Group) -> int:
    """After how long without a sign a device of `group` is silent or unreached.

    With a maintenance window the longest time that it stays closed is added: a device that waits is not silent.
    """
    if plan.window is None:
        return group.observe_s
    return group.observe_s + longest_closed_s(parse_schedule(plan.window.cron, plan.window.duration_s))


def backoff_s(retry: Retry, attempts: int) -> int:
    """How long after its failure a device with so many attempts (from 1) is tried again: doubling, at most a week."""
    return min(retry.backoff_s << min(max(attempts, 1) - 1, 20), MAX_BACKOFF_S)
