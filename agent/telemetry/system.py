"""How the machine does, read from the kernel without further packages. What a machine cannot say is None.

Every reading stands alone: one that fails leaves the others. Starts are counted in a small file, written once in each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.ota import sealed
from agent.telemetry.process import disk_bytes
from shared import limits
from shared.errors import SkerryError
from shared.wire.system import System

__all__ = ["SystemSource"]

_SYNCHRONISED = "run/systemd/timesync/synchronized"
_TIMESYNC = "run/systemd/timesync"
_FILE = "starts.json"


class _Starts(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: int = 1
    count: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] = 0


class SystemSource:
    """Readings of one machine. `state`: the agent's folder; `root`: of the file system, for tests."""

    def __init__(self, state: Path, root: Path = Path("/")) -> None:
        self._state = state
        self._root = root
        self._ticks = self._cpu_ticks()
        self._restarts: int | None = None
        self._counted = False

    def count_start(self) -> None:
        """Note that the agent started, once in its life; a disk that cannot be written keeps nothing from going on."""
        if self._counted:
            return
        self._counted = True
        path = self._state / _FILE
        try:
            before = sealed.load(path, _Starts, limit=limits.MAX_JOURNAL_BYTES).count
        except (SkerryError, OSError):
            before = 0
        self._restarts = before
        try:
            sealed.save(path, _Starts(count=before + 1))
        except (SkerryError, OSError):
            self._restarts = None

    def take(self) -> System:
        """The machine now; the processor since the last call."""
        battery, on_battery = self._battery()
        return System(
            cpu_percent=self._cpu_percent(),
            load_1m=_load(),
            temperature_c=max(self._temperatures(), default=None),
            memory_available_bytes=self._memory_available(),
            disk_total_bytes=disk_bytes(self._state)[1],
            uptime_s=self._uptime(),
            restarts=self._restarts,
            clock_synchronised=self._synchronised(),
            battery_percent=battery,
            on_battery=on_battery,
        )

    def _text(self, path: str | Path) -> str:
        try:
            return (self._root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def _cpu_ticks(self) -> tuple[int, int]:
        """(busy, all) since the machine started."""
        fields = self._text("proc/stat").partition("\n")[0].split()[1:]
        ticks = [int(field) for field in fields if field.isdigit()]
        idle = sum(ticks[3:5])
        return sum(ticks[:8]) - idle, sum(ticks[:8])

    def _cpu_percent(self) -> float | None:
        (busy, every), self._ticks = self._ticks, self._cpu_ticks()
        passed = self._ticks[1] - every
        if passed <= 0:
            return None
        return round(min(100.0, max(0.0, 100.0 * (self._ticks[0] - busy) / passed)), 2)

    def _temperatures(self) -> Iterator[float]:
        for path in sorted(self._root.glob("sys/class/thermal/thermal_zone*/temp")):
            text = self._text(path)
            if text.lstrip("-").isdigit() and -100_000 < int(text) < 300_000:
                yield int(text) / 1000

    def _memory_available(self) -> int | None:
        for line in self._text("proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                number = line.split()[1]
                return int(number) * 1024 if number.isdigit() else None
        return None

    def _uptime(self) -> int | None:
        first = self._text("proc/uptime").split(".")[0]
        return int(first) if first.isdigit() else None

    def _synchronised(self) -> bool | None:
        """What systemd-timesyncd says; None where another program keeps the clock."""
        if not (self._root / _TIMESYNC).is_dir():
            return None
        return (self._root / _SYNCHRONISED).exists()

    def _battery(self) -> tuple[float | None, bool | None]:
        for folder in sorted(self._root.glob("sys/class/power_supply/*")):
            if self._text(folder / "type") == "Battery":
                capacity, status = self._text(folder / "capacity"), self._text(folder / "status")
                percent = float(min(100, int(capacity))) if capacity.isdigit() else None
                return percent, status == "Discharging" if status else None
        return None, None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 3)
    except OSError:
        return None
