"""What time it is at the least, on a device whose clock may say anything.

Rules, in docs/clock.md in full: the trusted time is the clock's, but never before the floor. The floor is the latest
of three lower bounds of the true time: what is stored, plus the time that the machine has run since; the notBefore of
the device's certificate; the date of this software. What is stored grows to the clock's time only when release
metadata was verified as not yet expired at that time, so a clock that once ran ahead raises it no further than a
signed expiry. It grows by the running time always, so a device without a clock cannot be held for ever at the same
moment by an old mirror, not even by restarting it again and again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from agent.ota.floor import Floor
from shared import limits

__all__ = ["RELEASED_S", "Uptime", "least_s", "now_s", "running_s", "system_uptime"]

RELEASED_S = 1_767_225_600.0
"""No copy of this software is older than this (2026-01-01, UTC); moved forward with releases."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """How long the machine is up (seconds, time asleep included), and a name for this start of it."""

    seconds: float
    boot: str = ""


def system_uptime() -> Uptime:
    """The kernel's own count, which no setting of the clock moves."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return Uptime(float(Path("/proc/uptime").read_text(encoding="ascii").split()[0]), boot[:64])
    except (OSError, ValueError, IndexError):
        return Uptime(time.monotonic())


def running_s(floor: Floor, uptime: Uptime) -> float:
    """How long the machine has run at the least since the floor was noted; it may have been started again."""
    same = uptime.boot == floor.boot and uptime.seconds >= floor.uptime_s
    return uptime.seconds - floor.uptime_s if same else uptime.seconds


def least_s(floor: Floor, uptime: Uptime, not_before_s: float) -> float:
    """The floor of the time, in seconds since 1970."""
    stored_s = floor.verified_s + running_s(floor, uptime) if floor.verified_s else 0.0
    return min(max(stored_s, not_before_s), float(limits.MAX_CLOCK_S))


def now_s(clock_s: float, least: float) -> float:
    """The trusted time: the clock's unless that is before the floor (seconds since 1970)."""
    return min(max(clock_s, least), float(limits.MAX_CLOCK_S))
