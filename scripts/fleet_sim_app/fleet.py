"""All simulated devices of one run: started at a rate, watched together, ended together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from agent.link.mqtt import MqttConnector
from agent.settings import LinkSettings
from scripts.fleet_sim_app.device import SimDevice, World
from scripts.fleet_sim_app.enrolment import Enrolled
from scripts.fleet_sim_app.fate import absences_of
from scripts.fleet_sim_app.figures import Figures
from scripts.fleet_sim_app.scenario import Scenario
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.profiles import load_profile

__all__ = ["Fleet", "Pace"]

_POLL_S = 0.1
_CONNECT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much happens at once. connects_per_s: new devices a second (0: all at once). opening: connections that are
    being made. requesting: downloads and fallbacks."""

    connects_per_s: float = 200.0
    opening: int = 32
    requesting: int = 32


class Fleet:
    """A context manager: the devices end with it."""

    def __init__(
        self,
        enrolled: Sequence[Enrolled],
        scenario: Scenario,
        *,
        seed: int,
        hub_url: str,
        pace: Pace,
        link: LinkSettings | None = None,
    ) -> None:
        chosen = link or LinkSettings(connect_timeout_s=_CONNECT_S, retry_cap_s=30.0)
        self.figures = Figures()
        self.scenario = scenario
        self._seed = seed
        self._pace = pace
        world = World(
            scenario=scenario,
            seed=seed,
            hub_url=hub_url,
            profiles={name: load_profile(name) for name in scenario.profiles},
            connector=MqttConnector(timeout_s=chosen.connect_timeout_s, keepalive_s=chosen.keepalive_s),
            link=chosen,
            opening=asyncio.Semaphore(pace.opening),
            requesting=asyncio.Semaphore(pace.requesting),
            figures=self.figures,
            clock=SystemClock(),
        )
        self.devices = [SimDevice(one.identity, one.credentials, world) for one in enrolled]
        self._tasks: list[asyncio.Task[None]] = []
        self._ramp: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Fleet:
        self._ramp = asyncio.create_task(self._start_all(), name="ramp")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *([self._ramp] if self._ramp else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_all(self) -> None:
        began = time.monotonic()
        for number, device in enumerate(self.devices):
            if self._pace.connects_per_s:
                ahead_s = number / self._pace.connects_per_s - (time.monotonic() - began)
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
            self._tasks.append(asyncio.create_task(device.run(), name=device.device_id))

    def check(self) -> None:
        """Raise what ended a device: none may end by itself."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                error = task.exception()
                raise RuntimeError(f"the simulated device {task.get_name()} ended") from error

    async def until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> float:
        """Wait until `holds()`; the seconds that it took. Error `sim.too_long`."""
        began = time.monotonic()
        while not holds():
            self.check()
            if time.monotonic() - began > timeout_s:
                raise Unavailable("sim.too_long", f"Waited {timeout_s:.0f} s for {what}, in vain. {self.figures}")
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - began

    async def connected(self, timeout_s: float) -> float:
        """Wait until every device has its session."""
        return await self.until(lambda: self.figures.connected == len(self.devices), "all sessions", timeout_s)

    async def settled(self, timeout_s: float) -> float:
        """Wait until the hub has confirmed all that was made up to some moment."""
        marks = {device.device_id: (device.outbox.state.epoch, device.outbox.state.next_seq) for device in self.devices}

        def holds() -> bool:
            return all(
                device.outbox.state.epoch != marks[device.device_id][0]
                or device.outbox.state.watermark >= marks[device.device_id][1] - 1
                for device in self.devices
            )

        return await self.until(holds, "the hub to confirm every message", timeout_s)

    def serving(self, model: str, version: int) -> int:
        """On how many devices this version serves."""
        return sum(device.serves(model, version) for device in self.devices)

    def decided(self, model: str, version: int) -> bool:
        """Whether the installation of this version has ended on every device."""
        return all(device.decided(model, version) for device in self.devices)

    async def play(self) -> None:
        """The scenario's absences, in seconds from now; returns when the last one is over."""
        began = time.monotonic()
        steps = sorted(
            (at_s, number, reachable)
            for number, device in enumerate(self.devices)
            for absence in absences_of(self.scenario, self._seed, device.device_id, device.profile)
            for at_s, reachable in ((absence.from_s, False), (absence.until_s, True))
        )
        for at_s, number, reachable in steps:
            ahead_s = at_s - (time.monotonic() - began)
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            await self.devices[number].set_reachable(reachable)
