"""What this process and this machine use, read from the kernel without further packages. Units are in the names."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from shared.clock import Clock

__all__ = ["CpuMeter", "disk_bytes", "memory_bytes", "rss_bytes"]

_PAGE_BYTES = resource.getpagesize()


def rss_bytes() -> int:
    """Resident memory of this process; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def memory_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


def disk_bytes(folder: Path) -> tuple[int, int]:
    """(free for us, total) of the file system of `folder`; zeros when it cannot be asked."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return 0, 0
    return stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize


class CpuMeter:
    """The share of one core that this process used since the last question."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_s = clock.monotonic()
        self._used_s = time.process_time()

    def percent(self) -> float:
        """Percent of one core, over the time since the last call."""
        at_s, used_s = self._clock.monotonic(), time.process_time()
        passed_s, spent_s = at_s - self._at_s, used_s - self._used_s
        self._at_s, self._used_s = at_s, used_s
        return round(100.0 * spent_s / passed_s, 3) if passed_s > 0 else 0.0
