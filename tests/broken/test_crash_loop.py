"""A version that passes its trial and then kills the agent's own process: the version before comes back by itself.

The daemon is a real process that is started again whenever it dies, as systemd does; the model dies of one input that
the trial cannot know (an integer remainder that an x86 processor traps).
"""

from __future__ import annotations

import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.local_client import LocalAgent
from agent.ota.machine import MAX_COMMITTED_RESTARTS, MAX_FRAGILE_RESTARTS
from shared.errors import SkerryError
from tests.broken import hostile_models
from tests.daemon.device import RunningAgent, launch
from tests.models import digits_bundle, load_digits
from tests.ota.conftest import bundle
from tests.ota.device import Device
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors do not trap this remainder")
SCALE = 16


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[TrustKit]:
    made = TrustKit(tmp_path / "kit")
    made.create_model("digits")
    yield made
    made.close()


@pytest.fixture
def hub(kit: TrustKit, tmp_path: Path) -> Iterator[HubSim]:
    with HubSim(kit, tmp_path / "hub").serve() as running:
        yield running


async def install(device: Device, kit: TrustKit, version: int, data: bytes, *, bake_s: int) -> None:
    """Install until the version serves: on probation, or committed with no bake time."""
    kit.approve("digits", version, data)
    async with device.run():
        await device.assign(kit.assignment(DEVICE, "digits", version, counter=version, bake_s=bake_s))
        await device.until_state("probation" if bake_s else "committed", counter=version)
        assert device.serves() == version


def fatal(folder: Path) -> bytes:
    """A bundle in order whose extractor dies of `POISON`."""
    digits_bundle(folder / "fatal", 2, extractor=hostile_models.crashing(on_poison=True))
    return (folder / "fatal").read_bytes()


def request(pixel: float) -> dict[str, Any]:
    image = load_digits().test_x[0].ravel().tolist()
    image[3] = pixel
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image}]}


def status(agent: RunningAgent) -> dict[str, Any]:
    found: dict[str, Any] = agent.ask("/skerry/status")["models"][0]
    return found


def survives(agent: RunningAgent) -> bool:
    """Whether the agent survives the request that kills the fatal version."""
    try:
        with LocalAgent(agent.paths.socket) as client:
            client.post("/v2/models/digits/infer", request(hostile_models.POISON * SCALE))
    except SkerryError:
        assert agent.process.wait(30) == -signal.SIGFPE
        return False
    return True


@pytest.mark.parametrize(("bake_s", "most"), [(3600, MAX_FRAGILE_RESTARTS), (0, MAX_COMMITTED_RESTARTS)])
async def test_a_version_that_kills_the_agent_gives_way_to_the_one_before(
    kit: TrustKit, hub: HubSim, tmp_path: Path, bake_s: int, most: int
) -> None:
    device = Device(hub, tmp_path / "state", in_process=False)
    await install(device, kit, 1, bundle(1), bake_s=0)
    await install(device, kit, 2, fatal(tmp_path), bake_s=bake_s)
    for _ in range(most + 2):
        agent = launch(device.paths)
        if status(agent)["state"] not in ("probation", "committed"):
            break
        assert agent.ask("/v2/models/digits/infer", request(0.0))["outputs"]
        assert not survives(agent)
    try:
        while status(agent)["state"] != "rolled_back":
            assert agent.process.poll() is None
        assert survives(agent)
        assert (status(agent)["active_version"], status(agent)["reason_code"]) == (1, "install.crash_loop")
    finally:
        agent.stop()
    await install(device, kit, 3, bundle(3), bake_s=0)
