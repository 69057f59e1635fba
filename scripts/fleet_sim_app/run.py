"""One simulation from beginning to end: hub, enrolment, sessions, the first version, the candidate, the figures.

Rules: what was started is ended, by its own id, also when something fails in the middle; the figures are taken from
the processes that were started and from nobody else's.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agent.settings import LinkSettings
from scripts.fleet_sim_app.descriptors import raise_limit
from scripts.fleet_sim_app.enrolment import Wanted, enrol_all
from scripts.fleet_sim_app.fate import draw, profile_of
from scripts.fleet_sim_app.figures import Figures
from scripts.fleet_sim_app.fleet import Fleet, Pace
from scripts.fleet_sim_app.operator import Operator
from scripts.fleet_sim_app.own_hub import OwnHub
from scripts.fleet_sim_app.release import MODEL
from scripts.fleet_sim_app.rolling import Rolled, canary, deploy, roll_out
from scripts.fleet_sim_app.scenario import Scenario
from scripts.fleet_sim_app.usage import Usage, usage_of
from shared.errors import InvalidInput

__all__ = ["Given", "Plan", "Simulation", "Watcher"]


@dataclass(frozen=True, slots=True)
class Given:
    """A hub that is there already: its address, an administrator's token, its CA, and the model to roll out."""

    url: str
    token: str
    ca_file: Path
    model: str = MODEL
    candidate: int = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate. first_version, candidate: what is left out when they are false. link: the agents' settings.

    timeout_s: for each step.
    """

    devices: int
    scenario: Scenario
    seed: int = 1
    pace: Pace = field(default_factory=Pace)
    bundle_bytes: int = 200_000
    first_version: bool = True
    candidate: bool = True
    link: LinkSettings | None = None
    timeout_s: float = 900.0
    given: Given | None = None


class Watcher(Protocol):
    """Sees how it goes."""

    def step(self, title: str) -> None:
        """Something begins."""
        ...

    def fleet(self, figures: Figures, devices: int) -> None:
        """The figures now."""
        ...

    def rollout(self, answer: Any) -> None:
        """The rollout as the hub tells it."""
        ...


class Simulation:
    """One run. `facts` grows as it goes."""

    def __init__(self, plan: Plan, folder: Path, watcher: Watcher) -> None:
        self.plan = plan
        self.folder = folder
        self.facts: dict[str, Any] = {
            "scenario": plan.scenario.name,
            "seed": plan.seed,
            "devices": plan.devices,
            "cores": os.cpu_count(),
        }
        self.hub: OwnHub | None = None
        self.rolled: Rolled | None = None
        self._watcher = watcher

    async def run(self, inspect: Callable[[Fleet, Operator], Any] | None = None) -> dict[str, Any]:
        """Play it; the summary. `inspect` is called (and awaited) with the fleet before it ends."""
        plan = self.plan
        raise_limit(plan.devices)
        async with self._operator() as operator:
            began, before = time.monotonic(), self._usage()
            enrolled = await self._timed("enrolment_s", self._enrol(operator))
            self.facts["enrolments_per_s"] = round(plan.devices / self.facts["enrolment_s"], 1)
            async with Fleet(
                enrolled, plan.scenario, seed=plan.seed, hub_url=operator.url, pace=plan.pace, link=plan.link
            ) as fleet:
                watching = asyncio.create_task(self._watch(fleet), name="watch")
                try:
                    await self._connect(fleet)
                    await self._first_version(fleet, operator)
                    if plan.candidate:
                        await self._candidate(fleet, operator)
                    self.facts["settled_s"] = round(await fleet.settled(plan.timeout_s), 2)
                    self._count(fleet, before, time.monotonic() - began)
                    if inspect is not None:
                        await inspect(fleet, operator)
                finally:
                    watching.cancel()
        return self.facts

    @property
    def as_expected(self) -> bool:
        """Whether the rollout ended as the scenario says."""
        expected = self.plan.scenario.expect
        if expected == "any" or self.rolled is None:
            return True
        good = ("finished", "keeping") if expected == "finished" else ("rolled_back",)
        return self.rolled.status in good

    # --- the hub ------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _operator(self) -> AsyncIterator[Operator]:
        given = self.plan.given
        if given is not None:
            async with Operator(given.url, given.token, given.ca_file) as operator:
                yield operator
            return
        self._watcher.step("a hub of its own: trust, a model, two gated and signed versions")
        self.hub = OwnHub(self.folder)
        scenario = self.plan.scenario
        start = self.hub.start(versions=2, bake_s=scenario.bake_s, bundle_bytes=self.plan.bundle_bytes)
        try:
            await self._timed("hub_start_s", start)
            async with Operator(self.hub.url, self.hub.token, self.hub.ca_file) as operator:
                yield operator
        finally:
            await self.hub.stop()

    @property
    def _model(self) -> str:
        return self.plan.given.model if self.plan.given else MODEL

    # --- the acts -----------------------------------------------------------------------------------------------------
    async def _enrol(self, operator: Operator) -> Any:
        plan = self.plan
        self._watcher.step(f"enrolling {plan.devices} devices: a key, a request and a certificate each")
        tag = f"{int(draw(plan.seed, 'run') * 16**4):04x}"
        wanted = [
            Wanted(f"sim-{tag}-{number:05d}", profile_of(plan.scenario, number), f"sim:{tag}:{number}")
            for number in range(plan.devices)
        ]
        return await enrol_all(operator, wanted, self.folder / "devices", lambda _count: None)

    async def _connect(self, fleet: Fleet) -> None:
        self._watcher.step("one MQTT session each, over mutual TLS")
        self.facts["connected_s"] = round(await fleet.connected(self.plan.timeout_s), 2)
        self.facts["sessions"] = fleet.figures.connected
        self.facts["first_messages_s"] = round(await fleet.settled(self.plan.timeout_s), 2)

    async def _first_version(self, fleet: Fleet, operator: Operator) -> None:
        if self.plan.given is not None or not self.plan.first_version:
            return
        self._watcher.step("version 1 to every device at once")
        seconds = await deploy(operator, MODEL, 1, where=_where(fleet), timeout_s=self.plan.timeout_s)
        self.facts["first_version_s"] = round(seconds, 2)

    async def _candidate(self, fleet: Fleet, operator: Operator) -> None:
        plan = self.plan
        version = plan.given.candidate if plan.given else 2
        self._watcher.step("version 2 as a canary with gates")
        began = time.monotonic()
        absences = asyncio.create_task(fleet.play(), name="absences")
        try:
            self.rolled = await roll_out(
                operator,
                canary(self._model, version, where=_where(fleet), devices=plan.devices),
                timeout_s=plan.timeout_s,
                watch=self._watcher.rollout,
            )
            await absences
            if self.rolled.status in ("finished", "keeping"):  # enough of the last wave: the rest is on its way
                await fleet.until(lambda: fleet.decided(self._model, version), "every installation", plan.timeout_s)
                self.facts["all_decided_s"] = round(time.monotonic() - began, 2)
        finally:
            absences.cancel()
        self.facts["rollout"] = {**asdict(self.rolled), "seconds": round(self.rolled.seconds, 2)}
        self.facts["serving_candidate"] = fleet.serving(self._model, version)
        self.facts["as_expected"] = self.as_expected

    async def _watch(self, fleet: Fleet) -> None:
        while True:
            self._watcher.fleet(fleet.figures, len(fleet.devices))
            await asyncio.sleep(0.5)

    # --- figures ------------------------------------------------------------------------------------------------------
    async def _timed(self, name: str, work: Any) -> Any:
        began = time.monotonic()
        found = await work
        self.facts[name] = round(time.monotonic() - began, 2)
        return found

    def _usage(self) -> dict[str, Usage]:
        found = {"simulator": usage_of(os.getpid())}
        if self.hub is not None:
            found["hub"] = usage_of(self.hub.pid)
            found["broker"] = usage_of(self.hub.broker_pid)
        return found

    def _count(self, fleet: Fleet, before: dict[str, Usage], seconds: float) -> None:
        figures = asdict(fleet.figures)
        self.facts["seconds"] = round(seconds, 1)
        self.facts["messages_per_s"] = round(fleet.figures.published / seconds, 1)
        self.facts["fleet"] = figures
        self.facts["load_average"] = [round(value, 1) for value in os.getloadavg()]
        for name, usage in self._usage().items():
            used = usage.since(before[name])
            self.facts[name] = {
                "cpu_s": round(used.cpu_s, 1),
                "rss_mb": round(used.rss_bytes / 1e6, 1),
                "peak_rss_mb": round(used.peak_rss_bytes / 1e6, 1),
            }


def _where(fleet: Fleet) -> str:
    """The filter that stands for the devices of this run, also on a hub that has others."""
    if not fleet.devices:
        raise InvalidInput("sim.devices", "A fleet has at least one device.")
    return f"id=={fleet.devices[0].device_id.rpartition('-')[0]}-*"
