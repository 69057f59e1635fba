"""What the device says of itself when it is to decide about training: machine, models, samples, window.

The processor is measured over a moment and without what the training process itself uses, which gives way to everything
else anyway. What cannot be read is None, and `agent.training.budget` refuses by that.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Protocol

from agent.drift.feedback import label_space
from agent.inference.host import ModelHost
from agent.ota.installer import InstallStatus
from agent.ota.trusted_time import RELEASED_S
from agent.ota.zone import device_zone
from agent.telemetry.process import disk_bytes
from agent.telemetry.system import SystemSource
from agent.training.budget import Readings
from shared.clock import Clock
from shared.errors import NotFound
from shared.profiles import Profile

__all__ = ["DeviceReadings", "Installs", "SamplesKept", "child_cpu_s"]

_TICKS = os.sysconf("SC_CLK_TCK")


class Installs(Protocol):
    """The installer, as far as it is asked."""

    def status(self) -> list[InstallStatus]: ...

    def resting(self) -> bool: ...


class SamplesKept(Protocol):
    """The intake of samples, as far as it is asked."""

    def samples(self, model: str, space: str) -> dict[int, int]: ...

    def seen(self, model: str, space: str) -> int: ...


def child_cpu_s(pid: int) -> float:
    """Processor time of a process with all its threads; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


class DeviceReadings:
    """Readings of this device. `installed`: whether the software for training is there."""

    def __init__(
        self,
        state: Path,
        profile: Profile,
        host: ModelHost,
        installs: Installs,
        samples: SamplesKept | None,
        clock: Clock,
        *,
        idle_s: float,
        installed: Callable[[], bool] = lambda: importlib.util.find_spec("flwr") is not None,
        system: SystemSource | None = None,
        zone: Callable[[], tzinfo] = device_zone,
    ) -> None:
        self._state = state
        self._profile = profile
        self._host = host
        self._installs = installs
        self._samples = samples
        self._clock = clock
        self._idle_s = idle_s
        self._installed = installed
        self._system = system or SystemSource(state)
        self._zone = zone
        self._cpu: tuple[float, float] = (clock.monotonic(), 0.0)

    def mark(self, pid: int | None) -> None:
        """Measure the processor from now on, without what the process `pid` uses."""
        self._system.take()
        self._cpu = (self._clock.monotonic(), 0.0 if pid is None else child_cpu_s(pid))

    def take(self, model: str, bundle_sha256: str, pid: int | None = None) -> Readings:
        """The device now, for one model; the processor since the last `mark` or `take`."""
        system = self._system.take()
        idle_s = self._host.idle_s()
        open_now, opens_in_s = self._window()
        free, total = disk_bytes(self._state)
        return Readings(
            enabled=self._samples is not None,
            installed=self._installed(),
            serving=self._serving(model, bundle_sha256),
            samples=self.samples(model),
            busy=not self._installs.resting(),
            in_window=open_now,
            opens_in_s=opens_in_s,
            on_mains=None if system.on_battery is None else not system.on_battery,
            battery_percent=system.battery_percent,
            temperature_c=system.temperature_c,
            idle=idle_s >= self._idle_s,
            idle_in_s=max(0.0, self._idle_s - idle_s),
            cpu_percent=self._others_percent(system.cpu_percent, pid),
            memory_available_bytes=system.memory_available_bytes,
            disk_free_bytes=free if total else None,
        )

    @property
    def keeps(self) -> bool:
        """Are samples kept here?"""
        return self._samples is not None

    def installed(self) -> bool:
        """Is the software for training there?"""
        return self._installed()

    def trainable(self) -> list[str]:
        """The models that serve and have a head that can learn, sorted."""
        return [model for model in self._host.models() if self._has_head(model)]

    def _has_head(self, model: str) -> bool:
        try:
            return self._host.current(model).manifest.head is not None
        except NotFound:
            return False

    def samples(self, model: str) -> Mapping[int, int]:
        """How many of each class the version that serves could learn from."""
        space = self.space(model)
        return {} if self._samples is None or not space else self._samples.samples(model, space)

    def seen(self, model: str) -> int:
        """How many there were, those included that were let go."""
        space = self.space(model)
        return 0 if self._samples is None or not space else self._samples.seen(model, space)

    def space(self, model: str) -> str:
        """What class numbers of the version that serves mean; empty when none does."""
        try:
            handle = self._host.current(model)
        except NotFound:
            return ""
        outputs = 1
        for size in handle.manifest.output.shape:
            outputs *= size
        return label_space(handle.labels, outputs)

    def _serving(self, model: str, bundle_sha256: str) -> dict[str, int]:
        """The version that serves, if it is this bundle."""
        for status in self._installs.status():
            served = self._host.serving(model) is not None and status.active_version is not None
            if status.model == model and served and status.bundle_sha256 == bundle_sha256:
                return {model: status.active_version or 0}
        return {}

    def _window(self) -> tuple[bool | None, float | None]:
        """Whether the maintenance window is open, and in how many seconds it opens."""
        window = self._profile.maintenance_window
        if window is None:
            return None, None
        from shared.schedule import is_open, next_opening_s, parse_schedule, parse_zone  # see `agent.ota.waiting`

        schedule = parse_schedule(window.cron, window.duration_s)
        zone = self._zone() if window.timezone == "device" else parse_zone(window.timezone)
        now_s = int(self._clock.now())
        if now_s < RELEASED_S:
            return False, None  # a clock that is wrong for sure opens no window
        if is_open(schedule, zone, now_s):
            return True, 0.0
        return False, float(next_opening_s(schedule, zone, now_s) - now_s)

    def _others_percent(self, percent: float | None, pid: int | None) -> float | None:
        """Of the whole machine, without the training process."""
        at_s, used_s = self._clock.monotonic(), 0.0 if pid is None else child_cpu_s(pid)
        (since_s, before_s), self._cpu = self._cpu, (at_s, used_s)
        if percent is None or pid is None or at_s <= since_s:
            return percent
        own = 100.0 * max(0.0, used_s - before_s) / (at_s - since_s) / (os.cpu_count() or 1)
        return max(0.0, percent - own)
