"""File descriptors: each session takes one here and one in the broker, each download two more for a moment."""

from __future__ import annotations

import resource

from shared.errors import Unavailable

__all__ = ["raise_limit"]

_SPARE = 512


def raise_limit(devices: int) -> int:
    """Raise the soft limit of open files for `devices` sessions, here and in what is started from here.

    Returns the limit; error `sim.descriptors` when the hard limit is too low.
    """
    wanted = devices + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or wanted <= hard
    if not enough:
        raise Unavailable(
            "sim.descriptors",
            f"{devices} sessions need {wanted} open files; this process may have {hard}.",
            hint=f"Simulate fewer devices, or raise the limit, as root: `ulimit -Hn {wanted}`.",
        )
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
