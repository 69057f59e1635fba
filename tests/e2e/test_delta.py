"""A real agent at a real hub: version 1 comes whole, version 2 as a delta, and the hub shows what that saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.ota.slots import Slots
from agent.paths import AgentPaths
from shared.bundle.unpacked import UnpackedArchive
from tests.daemon.device import running
from tests.daemon.test_with_hub import enrol_only, messaging, until
from tests.hub_kit import HubKit
from tests.models import digits_model
from tests.ports import free_port
from tests.registry_kit import Flow, released_hub


@asynccontextmanager
async def making(kit: HubKit) -> AsyncIterator[None]:
    """The hub's own loop that makes deltas."""
    task = asyncio.create_task(kit.hub.delta_loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def release_two(flow: Flow) -> None:
    """Two approved versions; the second has a head that was trained a little further."""
    flow.create_model("digits", bake_s=0)
    weights = {name: values * 1.01 for name, values in digits_model(1).weights.items()}
    flow.digits(1).raise_for_status()
    flow.digits(2, seed=1, weights=weights).raise_for_status()
    dataset = flow.put_dataset()
    for version in (1, 2):
        assert flow.gate("digits", version, dataset)["passed"]
        flow.approve("digits", version)


async def deployed(flow: Flow, version: int) -> dict[str, Any]:
    """Deploy a version and wait until the device serves it; the deployment as the hub shows it."""
    made = (await asyncio.to_thread(flow.deploy, "digits", version)).raise_for_status().json()
    path = f"/v1/deployments/{made['deployment_id']}"

    def detail() -> dict[str, Any]:
        found: dict[str, Any] = flow.admin.get(path).raise_for_status().json()
        assert not found["failures"], found
        return found

    await until(lambda: detail()["progress"]["succeeded"] == 1)
    return await asyncio.to_thread(detail)


@pytest.mark.slow
async def test_the_second_version_comes_as_a_delta_and_the_hub_shows_what_was_saved(tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    with released_hub(tmp_path, mqtt_port=free_port()) as flow:
        await asyncio.to_thread(release_two, flow)
        async with messaging(flow.kit), making(flow.kit):
            await asyncio.to_thread(enrol_only, flow.kit, paths)
            with running(paths) as agent:
                bundles = [(flow.kit.folder / f"digits-{version}.bundle").read_bytes() for version in (1, 2)]
                first = await deployed(flow, 1)
                assert first["downloads"] == {"devices": 1, "bytes": len(bundles[0]), "whole_bytes": len(bundles[0])}
                second = await deployed(flow, 2)
                assert second["downloads"]["whole_bytes"] == len(bundles[1])
                assert 0 < second["downloads"]["bytes"] < 0.2 * len(bundles[1]), agent.log()
                assert agent.predict() in range(10)
    slots = Slots(paths.model("digits"))
    with UnpackedArchive(slots.directory(slots.active() or "")) as slot:
        assert slot.read(0, slot.size) == bundles[1]
