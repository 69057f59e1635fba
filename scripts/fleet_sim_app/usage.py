"""What a process has used, from `/proc`: processor seconds with its ended children's, memory now and at its peak."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "children_of", "usage_of"]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu_s`: user and system. Zeros for a process that is gone."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    peak_rss_bytes: int = 0

    def since(self, before: Usage) -> Usage:
        """The processor seconds since `before`; memory as it is."""
        return Usage(self.cpu_s - before.cpu_s, self.rss_bytes, self.peak_rss_bytes)


def usage_of(pid: int) -> Usage:
    """What the process has used up to now."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Usage()
    ticks = sum(int(number) for number in fields[11:15])  # utime, stime, cutime, cstime
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in status.splitlines())
        if name in ("VmRSS", "VmHWM")
    }
    return Usage(ticks / _TICKS, kib.get("VmRSS", 0) * 1024, kib.get("VmHWM", 0) * 1024)


def children_of(pid: int, name: str) -> list[int]:
    """Children of a process whose program has this name."""
    found: list[int] = []
    try:
        text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return found
    for child in text.split():
        try:
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                found.append(int(child))
        except OSError:
            continue
    return found
