"""The heartbeat: how the device and its models do, every telemetry interval, with jitter so that fleets do not beat
together. It goes into the outbox, where it is the first to give way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import UNSET

from agent.link.meter import LinkReadings
from agent.outbox.outbox import Outbox
from agent.telemetry.process import CpuMeter, disk_bytes, rss_bytes
from agent.telemetry.system import SystemSource
from shared import __version__, limits
from shared.clock import Clock
from shared.wire.system import System
from shared.wire.training import SampleCount
from shared.wire.up import Heartbeat, ModelStatus

__all__ = ["HeartbeatSource", "ModelsSource"]

ModelsSource = Callable[[], list[ModelStatus]]
"""The models as they stand; taking them starts a new interval of their counters."""
_JITTER = 0.1


class HeartbeatSource:
    """Makes heartbeats and puts them into the outbox. `random` gives numbers in [0, 1)."""

    def __init__(
        self,
        state: Path,
        outbox: Outbox,
        models: ModelsSource,
        *,
        clock: Clock,
        interval_s: float,
        random: Callable[[], float],
        health: Callable[[], object] = lambda: None,
        samples: Callable[[], list[SampleCount]] | None = None,
        link: Callable[[], LinkReadings] | None = None,
    ) -> None:
        """`health`: called with each beat, in a thread, to post how versions do. `samples`: what there is to train on;
        None: nothing is kept here. `link`: its readings; taking them starts a new interval; None: not measured."""
        self._state = state
        self._outbox = outbox
        self._models = models
        self._clock = clock
        self._interval_s = interval_s
        self._random = random
        self._health = health
        self._samples = samples
        self._link = link
        self._began_s = clock.monotonic()
        self._cpu = CpuMeter(clock)
        self._system = SystemSource(state)

    def take(self) -> Heartbeat:
        """A heartbeat of this moment."""
        outbox = self._outbox.state
        return Heartbeat(
            agent_version=__version__,
            uptime_s=int(self._clock.monotonic() - self._began_s),
            rss_bytes=rss_bytes(),
            cpu_percent=self._cpu.percent(),
            disk_free_bytes=disk_bytes(self._state)[0],
            outbox_count=outbox.pending_count,
            outbox_dropped=outbox.dropped_count + self._outbox.lost_count,
            models=self._models(),
            system=self._with_link(self._system.take()),
            samples=UNSET if self._samples is None else self._samples()[: limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT],
        )

    def _with_link(self, system: System) -> System:
        if self._link is None:
            return system
        read = self._link()
        return msgspec.structs.replace(
            system,
            link=read.way,
            link_rtt_s=UNSET if read.rtt_s is None else read.rtt_s,
            link_reconnects=read.reconnects,
            clock_ahead_s=UNSET if read.clock_ahead_s is None else read.clock_ahead_s,
        )

    async def run(self) -> None:
        """Beat until cancelled; the first beat comes at once."""
        await asyncio.to_thread(self._system.count_start)
        while True:
            self._outbox.post(self.take())
            await asyncio.to_thread(self._health)
            spread = 1.0 + _JITTER * (2.0 * self._random() - 1.0)
            await asyncio.sleep(self._interval_s * spread)
