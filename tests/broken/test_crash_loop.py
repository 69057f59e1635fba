"""A version that passes its trial and then ends the agent's own process: the version before comes back by itself.

The daemon is a real process that is started again whenever it dies, as systemd does; the model crashes (an integer
remainder that an x86 processor traps) or hangs over one input that the trial cannot know.
"""

from __future__ import annotations

import platform
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.local_client import LocalAgent
from agent.ota.machine import MAX_COMMITTED_RESTARTS, MAX_FRAGILE_RESTARTS
from shared.errors import SkerryError
from tests.broken import hostile_models
from tests.daemon.device import SETTINGS, RunningAgent, launch
from tests.models import digits_bundle, load_digits
from tests.ota.conftest import bundle
from tests.ota.device import Device
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

traps = pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors do not trap this remainder")
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


@dataclass(frozen=True)
class Fatal:
    """An extractor that is in order but for one input, that input, and how the agent then ends."""

    extractor: Callable[[], bytes]
    pixel: float
    code: int

    def bundle(self, folder: Path) -> bytes:
        """Version 2 with it."""
        digits_bundle(folder / "fatal", 2, extractor=self.extractor())
        return (folder / "fatal").read_bytes()


CRASHES = Fatal(lambda: hostile_models.crashing(on_poison=True), hostile_models.POISON * SCALE, -signal.SIGFPE)
HANGS = Fatal(lambda: hostile_models.endless(on_poison=True), 2 * hostile_models.ENDLESS * SCALE, 1)
ENVIRONMENT = {**SETTINGS, "SKERRY_AGENT_HANG_LIMIT_S": "2"}


def request(pixel: float) -> dict[str, Any]:
    image = load_digits().test_x[0].ravel().tolist()
    image[3] = pixel
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image}]}


def status(agent: RunningAgent) -> dict[str, Any]:
    found: dict[str, Any] = agent.ask("/skerry/status")["models"][0]
    return found


def survives(agent: RunningAgent, fatal: Fatal) -> bool:
    """Whether the agent survives the request that is fatal for version 2."""
    try:
        with LocalAgent(agent.paths.socket) as client:
            client.post("/v2/models/digits/infer", request(fatal.pixel))
    except SkerryError:
        assert agent.process.wait(30) == fatal.code
        return False
    return True


@pytest.mark.parametrize(
    ("fatal", "bake_s", "most"),
    [
        pytest.param(CRASHES, 3600, MAX_FRAGILE_RESTARTS, id="crash on probation", marks=traps),
        pytest.param(CRASHES, 0, MAX_COMMITTED_RESTARTS, id="crash when committed", marks=traps),
        pytest.param(HANGS, 3600, MAX_FRAGILE_RESTARTS, id="hang on probation"),
    ],
)
async def test_a_version_that_ends_the_agent_gives_way_to_the_one_before(
    kit: TrustKit, hub: HubSim, tmp_path: Path, fatal: Fatal, bake_s: int, most: int
) -> None:
    device = Device(hub, tmp_path / "state", in_process=False)
    await install(device, kit, 1, bundle(1), bake_s=0)
    await install(device, kit, 2, fatal.bundle(tmp_path), bake_s=bake_s)
    for _ in range(most + 2):
        agent = launch(device.paths, settings=ENVIRONMENT)
        if status(agent)["state"] not in ("probation", "committed"):
            break
        assert agent.ask("/v2/models/digits/infer", request(0.0))["outputs"]
        assert not survives(agent, fatal)
    try:
        while status(agent)["state"] != "rolled_back":
            assert agent.process.poll() is None
        assert survives(agent, fatal)
        assert (status(agent)["active_version"], status(agent)["reason_code"]) == (1, "install.crash_loop")
    finally:
        agent.stop()
    await install(device, kit, 3, bundle(3), bake_s=0)
