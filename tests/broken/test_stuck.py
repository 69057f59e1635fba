"""A prediction that hangs in the model's own thread, where the event loop goes on as if nothing were.

It is given up, the version before serves, and the agent gets rid of the thread by being started again.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.local_client import LocalAgent
from agent.ota.probation import Limits, Observed, VerdictKind, hang_s, judge
from agent.stuck import StuckGuard
from shared.bundle.archive import unpack_bundle
from shared.bundle.manifest import Manifest
from shared.errors import SkerryError
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel
from tests.broken import hostile_models
from tests.daemon.device import SETTINGS, RunningAgent, launch
from tests.models import digits_bundle, load_digits
from tests.ota.conftest import bundle
from tests.ota.device import Device
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

POISON = 2 * hostile_models.ENDLESS * 16
ROWS = 256
"""So many at once are not predicted on the event loop."""


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


def hanging(folder: Path) -> bytes:
    """Version 2, which does not end over one pixel."""
    digits_bundle(folder / "hanging", 2, extractor=hostile_models.endless(on_poison=True))
    return (folder / "hanging").read_bytes()


async def install(device: Device, kit: TrustKit, version: int, data: bytes, *, bake_s: int) -> None:
    kit.approve("digits", version, data)
    async with device.run():
        await device.assign(kit.assignment(DEVICE, "digits", version, counter=version, bake_s=bake_s))
        await device.until_state("probation" if bake_s else "committed", counter=version)


def images(pixel: float, rows: int) -> Array:
    found = np.repeat(load_digits().test_x[:1], rows, axis=0)
    found[0].ravel()[3] = pixel
    return found


class Blocking:
    """A model whose predictions last until `go_on`."""

    def __init__(self, folder: Path) -> None:
        digits_bundle(folder / "blocking", 1)
        self.manifest = read_manifest_of(folder)
        self.labels = None
        self.go_on = threading.Event()
        self.go_on.set()

    def golden(self) -> tuple[Array, Array]:
        return images(0.0, 1), images(0.0, 1)

    def predict(self, x: Array) -> Array:
        self.go_on.wait(60)
        return x

    def close(self) -> None:
        """Nothing to free."""


def read_manifest_of(folder: Path) -> Manifest:
    data = (folder / "blocking").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return unpack_bundle(folder / "blocking", folder / "unpacked", expected_sha256=digest, expected_bytes=len(data))


async def test_who_waits_for_a_prediction_that_hangs_is_told_and_the_next_version_has_a_thread_of_its_own(
    tmp_path: Path,
) -> None:
    host, blocking = ModelHost(inline_ns=0), Blocking(tmp_path)
    host.swap("digits", ModelHandle(tmp_path / "two", cast(LoadedModel, blocking)))
    blocking.go_on.clear()
    asked = [asyncio.create_task(host.answer_async("digits", images(0.0, 1))) for _ in range(3)]
    while host.under_way_s("digits") == 0.0:  # noqa: ASYNC110 - a thread sets no event
        await asyncio.sleep(0)
    host.give_up("digits")
    for task in asked:
        with pytest.raises(SkerryError) as caught:
            await task
        assert (caught.value.code, caught.value.retriable) == ("model.hung", True)
    host.swap("digits", host.load("digits", tmp_path / "unpacked"))
    async with asyncio.timeout(30):
        _, handle = await host.answer_async("digits", images(0.0, 1))
    assert handle.manifest.version == 1
    assert host.stuck()
    blocking.go_on.set()
    async with asyncio.timeout(30):
        while host.stuck():  # noqa: ASYNC110 - a thread sets no event
            await asyncio.sleep(0)
    host.close()


async def test_a_caller_who_goes_away_is_not_told_that_the_model_hangs(tmp_path: Path) -> None:
    host, blocking = ModelHost(inline_ns=0), Blocking(tmp_path)
    host.swap("digits", ModelHandle(tmp_path, cast(LoadedModel, blocking)))
    blocking.go_on.clear()
    task = asyncio.create_task(host.answer_async("digits", images(0.0, 1)))
    while host.under_way_s("digits") == 0.0:  # noqa: ASYNC110 - a thread sets no event
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    blocking.go_on.set()
    host.close()


def body(pixel: float, rows: int) -> dict[str, Any]:
    data = images(pixel, rows).ravel().tolist()
    return {"inputs": [{"name": "image", "datatype": "FP32", "shape": [rows, 8, 8], "data": data}]}


def status(agent: RunningAgent) -> dict[str, Any]:
    found: dict[str, Any] = agent.ask("/skerry/status")["models"][0]
    return found


def poison(agent: RunningAgent) -> None:
    """Somebody asks for the prediction that does not end."""

    def ask() -> None:
        with LocalAgent(agent.paths.socket) as client, pytest.raises(SkerryError):
            client.post("/v2/models/digits/infer", body(POISON, ROWS))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)


@pytest.mark.parametrize(
    ("bake_s", "ends"),
    [pytest.param(3600, ("rolled_back", 1), id="on probation"), pytest.param(0, ("committed", 2), id="committed")],
)
async def test_the_agent_ends_itself_to_get_rid_of_the_thread_and_then_serves(
    kit: TrustKit, hub: HubSim, tmp_path: Path, bake_s: int, ends: tuple[str, int]
) -> None:
    device = Device(hub, tmp_path / "state", in_process=False)
    await install(device, kit, 1, bundle(1), bake_s=0)
    await install(device, kit, 2, hanging(tmp_path), bake_s=bake_s)
    settings = {**SETTINGS, "SKERRY_AGENT_OTA__PROBATION_HANG_S": "1", "SKERRY_AGENT_HANG_LIMIT_S": "4"}
    agent = launch(device.paths, settings=settings)
    try:
        assert status(agent)["active_version"] == 2
        poison(agent)
        assert agent.process.wait(60) == 1, agent.log()
        agent = launch(device.paths, settings=settings)
        assert (status(agent)["state"], status(agent)["active_version"]) == ends
        assert agent.ask("/v2/models/digits/infer", body(0.0, ROWS))["outputs"]
    finally:
        agent.stop()


class Hanging:
    """A host with one prediction that hangs."""

    def __init__(self) -> None:
        self.given_up: list[str] = []

    def models(self) -> list[str]:
        return ["digits"]

    def under_way_s(self, model: str) -> float:
        return 0.0 if self.given_up else 5.0

    def give_up(self, model: str) -> None:
        self.given_up.append(model)

    def stuck(self) -> bool:
        return bool(self.given_up)


async def test_the_agent_does_not_end_in_the_middle_of_the_way_back() -> None:
    host, rests, ended = Hanging(), [False, False, True], asyncio.Event()
    host.given_up.append("by the probation")
    guard = StuckGuard(host, 1.0, lambda: rests.pop(0), lambda why: ended.set(), look_s=0.001)
    task = asyncio.create_task(guard.run())
    async with asyncio.timeout(10):
        await ended.wait()
    task.cancel()
    assert rests == []


async def test_a_host_without_such_a_prediction_is_left_alone() -> None:
    host = ModelHost()
    assert (host.under_way_s("digits"), host.stuck()) == (0.0, False)
    host.give_up("digits")
    assert not host.stuck()


def test_when_a_prediction_counts_as_hung() -> None:
    assert hang_s(50_000, 10.0) == 10.0
    assert hang_s(200_000, 10.0) == 20.0
    assert hang_s(60_000_000, 10.0) == 60.0
    limits = Limits(bake_s=0.0, latency_p99_us=50_000, hang_s=10.0)
    seen = Observed(requests=0, errors=0, latency_p99_us=0, restarts=0, under_way_s=10.1)
    assert judge(seen, 0.0, limits).code == "probation.hung"
    calm = Observed(requests=0, errors=0, latency_p99_us=0, restarts=0, under_way_s=9.9)
    assert judge(calm, 0.0, limits).kind is VerdictKind.COMMIT
