"""A real agent at a real hub: how a version does, that it crashed, and how a candidate compares, reach the hub."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.paths import AgentPaths
from hub.store.assignments import Terms
from hub.store.device_filter import device_ids
from hub.store.health import (
    HealthSums,
    Scope,
    ShadowSums,
    shadow_health,
    shadow_latency,
    version_health,
    version_latency,
)
from shared.wire.down import ShadowRun, Window
from tests.daemon.device import RunningAgent, running
from tests.daemon.test_with_hub import enrol_only, messaging, until
from tests.e2e.test_delta import deployed
from tests.hub_kit import HubKit
from tests.ports import free_port
from tests.registry_kit import Flow, released_hub

PROFILE = "x86-gateway"
NOTHING = HealthSums(reports=0, requests=0, errors=0, over_budget=0, crashes=0)
NO_SHADOW = ShadowSums(
    reports=0, compared=0, disagreed=0, errors=0, over_budget=0, skipped=0, crashes=0, stopped=0
)  # fmt: skip


def release_two(flow: Flow) -> None:
    """Two approved versions with weights of their own."""
    flow.create_model("digits", bake_s=0)
    dataset = None
    for version in (1, 2):
        flow.digits(version).raise_for_status()
        dataset = dataset or flow.put_dataset()
        assert flow.gate("digits", version, dataset)["passed"]
        flow.approve("digits", version)


class Told:
    """What the hub was told, from its tables."""

    def __init__(self, kit: HubKit, version: int, cohort: str | None = None) -> None:
        self._kit = kit
        self._scope = Scope(model="digits", version=version, since_s=0.0, cohort=cohort)

    def version(self) -> HealthSums:
        with self._kit.hub.db.read() as connection:
            return version_health(connection, self._scope).get(PROFILE, NOTHING)

    def shadow(self) -> ShadowSums:
        with self._kit.hub.db.read() as connection:
            return shadow_health(connection, self._scope).get(PROFILE, NO_SHADOW)

    def latencies(self) -> int:
        with self._kit.hub.db.read() as connection:
            found = {**version_latency(connection, self._scope), **shadow_latency(connection, self._scope)}
        return sum(count for _, count in found.get(PROFILE, []))


async def predict(agent: RunningAgent, count: int) -> None:
    for index in range(count):
        await asyncio.to_thread(agent.predict, index)


async def assign_on(flow: Flow, version: int, rollout: str, mode: str, **conditions: ShadowRun | Window) -> None:
    """What a rollout does when it assigns on conditions."""
    hub = flow.kit.hub
    terms = Terms(mode=mode, conditions=msgspec.json.encode(conditions).decode())

    def assign() -> None:
        with hub.db.write() as connection:
            assert hub.assignments.assign(connection, device_ids(["pi-1"]), "digits", version, rollout, terms) == 1

    await asyncio.to_thread(assign)
    hub.publications.wake()


def cohort(flow: Flow) -> str:
    """The one deployment that there is."""
    (found,) = flow.admin.get("/v1/deployments").raise_for_status().json()["items"]
    return str(found["deployment_id"])


def status(agent: RunningAgent) -> dict[str, Any]:
    (found,) = agent.ask("/skerry/status")["models"]
    return dict(found)


@pytest.mark.slow
async def test_health_a_crash_and_a_shadows_disagreement_reach_the_hub_once(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with released_hub(tmp_path, mqtt_port=free_port()) as flow:
        await asyncio.to_thread(release_two, flow)
        live = Told(flow.kit, 1)
        async with messaging(flow.kit):
            await asyncio.to_thread(enrol_only, flow.kit, paths)
            with running(paths) as agent:
                await deployed(flow, 1)
                await predict(agent, 30)
                await until(lambda: live.version().requests == 30)
                assert live.version() == HealthSums(
                    reports=live.version().reports, requests=30, errors=0, over_budget=0, crashes=0
                )
                assert Told(flow.kit, 1, cohort(flow)).version().requests == 30
                assert live.latencies() == 30
                agent.stop(signal.SIGKILL)
            with running(paths) as agent:
                await until(lambda: live.version().crashes == 1)
                await assign_on(flow, 2, "r-shadow", "shadow", shadow=ShadowRun(share_bp=10_000, cpu_bp=10_000))
                await until(lambda: status(agent)["state"] == "held")
                assert (status(agent)["active_version"], status(agent)["mode"]) == (1, "shadow")
                candidate = Told(flow.kit, 2, "r-shadow")
                for _ in range(40):
                    await predict(agent, 25)
                    if candidate.shadow().disagreed:
                        break
                assert candidate.shadow().compared > 0
                assert 0 < candidate.shadow().disagreed < candidate.shadow().compared
                assert candidate.version() == NOTHING
                row = flow.admin.get("/v1/devices/pi-1").raise_for_status().json()
                (model,) = [found for found in row["models"] if found["model"] == "digits"]
                assert (model["version"], model["state"]) == (1, "held")
                await deployed(flow, 2)
                assert status(agent)["active_version"] == 2
                assert live.version().crashes == 1


@pytest.mark.slow
async def test_what_a_version_waits_for_is_told_to_the_hub_and_a_later_word_ends_it(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    later = datetime.now(UTC) + timedelta(hours=6)
    window = Window(cron=f"{later.minute} {later.hour} * * *", duration_s=3600, timezone="UTC")
    with released_hub(tmp_path, mqtt_port=free_port()) as flow:
        await asyncio.to_thread(release_two, flow)
        async with messaging(flow.kit):
            await asyncio.to_thread(enrol_only, flow.kit, paths)
            with running(paths) as agent:
                await deployed(flow, 1)
                await assign_on(flow, 2, "r-window", "live", window=window)

                def model() -> dict[str, Any]:
                    (found,) = flow.admin.get("/v1/devices/pi-1").raise_for_status().json()["models"]
                    return dict(found)

                await until(lambda: model()["state"] == "held")
                assert (model()["version"], model()["reason_code"]) == (1, "install.waits_for_window")
                assert f"{later:%H:%M} UTC" in model()["reason"]
                assert "the window that opens at" in status(agent)["reason"]
                await deployed(flow, 2)
                assert (model()["version"], status(agent)["active_version"]) == (2, 2)
