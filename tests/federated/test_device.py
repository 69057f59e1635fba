"""A device's part in federated training against a real federation: it joins, trains, answers, stays, and lets go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from agent.telemetry.process import disk_bytes
from agent.training.personal import read_personal
from agent.training.work import measure
from hub.federated.flower.grid import Failure, Grid, Reply, Task
from hub.federated.flower.superlink import SuperLink, Tls
from shared.bundle.archive import read_manifest
from shared.federated.codec import decode
from shared.federated.vector import Vector
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel
from tests.federated.certificate import make_tls
from tests.federated.cut import Way
from tests.models import load_digits
from tests.training.device import COOL, FederatedDevice, labelled_digits
from tests.training.processes import training_processes

CONFIG: dict[str, int | float | str] = {
    "round": 1, "epochs": 8, "learning_rate": 0.1, "proximal_mu": 0.0, "scheme": "int8", "keep": 0.1, "held_out": 0.2,
}  # fmt: skip
START = np.zeros(650, np.float32)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def superlink(tls: Tls) -> Iterator[SuperLink]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        link = SuperLink(sock, tls).start()
        yield link
        link.stop()


class Hub:
    """The hub's side of one device's rounds."""

    def __init__(self, superlink: SuperLink, device: FederatedDevice) -> None:
        self.address = "{}:{}".format(*superlink.address)
        self.node_id = superlink.admit_node(device.public_key)
        self.grid = Grid(superlink)
        self.superlink = superlink

    async def give(self, round_no: int = 1, kind: str = "train", weights: Vector = START, **config: Any) -> None:
        """A task, once the device is connected."""
        await until(lambda: self.node_id in self.grid.nodes())
        values = {**CONFIG, "round": round_no, **config}
        (task_id,) = self.grid.push(
            [Task(node_id=self.node_id, weights=weights, config=values, ttl_s=120.0, kind=kind)]
        )
        assert task_id

    async def answer(self) -> Reply | Failure:
        """What came back."""
        async with asyncio.timeout(120):
            while not (found := self.grid.pull()):  # noqa: ASYNC110 - it comes from another process
                await asyncio.sleep(0.02)
        return found[0]

    async def update(self) -> Vector:
        reply = await self.answer()
        assert isinstance(reply, Reply), reply
        assert reply.update is not None
        return decode(reply.update, (10, 640))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110 - conditions are about another process
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def federated(
    folder: Path, superlink: SuperLink, tls: Tls, **settings: Any
) -> AsyncIterator[tuple[FederatedDevice, Hub]]:
    device = FederatedDevice(folder / "state", tls.ca, **settings)
    device.keep(labelled_digits(0, 200))
    async with device.running():
        yield device, Hub(superlink, device)


def accuracy(device: FederatedDevice, weights: Vector) -> float:
    folder = device.host.serving("digits")
    assert folder is not None
    manifest = read_manifest(folder)
    model, head = LoadedModel.load(folder, manifest), TrainableHead(folder, manifest)
    model.predict(load_digits().test_x[:256])
    head.weights = weights
    found = measure(head, model.embedding, load_digits().test_y[:256])
    assert found is not None
    return found.accuracy


def children() -> list[int]:
    return training_processes("agent.training.child")


async def test_a_device_joins_trains_answers_and_stays_for_the_next_round(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.take(device.offer(hub.address))
        await hub.give(1)
        moved = START + await hub.update()
        assert accuracy(device, START) < 0.2
        assert accuracy(device, moved) > 0.7
        (process,) = children()
        await device.told("done", 1)
        device.take(device.offer(hub.address, 2))
        await hub.give(2, weights=moved)
        again = moved + await hub.update()
        assert accuracy(device, again) >= accuracy(device, moved) - 0.02
        assert children() == [process]
        await device.told("done", 2)
        assert [(report.state, report.round_no) for report in device.reports] == [
            ("accepted", 1), ("joined", 1), ("done", 1), ("accepted", 2), ("done", 2),
        ]  # fmt: skip
        status = device.part.status()
        assert (status.rounds, status.failures, status.running) == (2, 0, "f-000000000001")
        assert 0 < status.peak_bytes < 130_000_000
        assert [one.state for one in status.offers] == ["done", "done"]
        assert os.getpriority(os.PRIO_PROCESS, process) == 19
    assert children() == []


async def test_nobody_waits_for_a_device_that_has_nothing_more_to_do(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.take(device.offer(hub.address, linger_s=0.0))
        await hub.give()
        await hub.update()
        await until(lambda: device.part.status().running == "")
        assert children() == []
        assert device.reports[-1].state == "done"
        assert device.part.counts()[0].kept == 200


async def test_what_no_longer_holds_ends_the_training_between_epochs(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls, watch_s=0.05) as (device, hub):
        device.take(device.offer(hub.address))
        await device.told("joined")
        device.machine.now = msgspec.structs.replace(COOL, temperature_c=95.0)
        await hub.give(1)
        hot = await hub.answer()
        assert isinstance(hot, Failure)
        assert hot.reason.startswith("training.too_hot")
        assert (await device.told("failed")).code == "training.too_hot"
        device.machine.now = COOL
        await hub.give(2, epochs=100, learning_rate=0.01)
        await until(lambda: device.part._attendance is not None and device.part._attendance._task == 2)
        device.machine.now = msgspec.structs.replace(COOL, on_battery=True, battery_percent=90.0)
        late = await hub.answer()
        if isinstance(late, Failure):  # it may have been quicker than the next look
            assert late.reason.startswith("training.on_battery")
            assert (await device.told("failed", 2)).code == "training.on_battery"


async def test_an_order_that_is_none_is_answered_with_its_code(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.take(device.offer(hub.address))
        await hub.give(1, epochs=1000)
        failure = await hub.answer()
        assert isinstance(failure, Failure)
        assert failure.reason.startswith("training.order")
        assert (await device.told("failed")).code == "training.order"
        await hub.give(2)
        assert (await hub.update()).any()  # the node goes on


async def test_a_killed_training_is_told_and_the_next_offer_begins_again(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.take(device.offer(hub.address))
        await hub.give(1, epochs=100, scheme="top")
        await until(lambda: device.part._attendance is not None and device.part._attendance._task == 1)
        (process,) = children()
        os.kill(process, signal.SIGKILL)
        failed = await device.told("failed")
        assert failed.code == "training.crashed"
        assert "SIGKILL" in failed.reason
        hub.grid.give_up()
        device.take(device.offer(hub.address, 2))
        await device.told("joined", 2)
        await hub.give(2, scheme="top")
        assert (await hub.update()).any()
        await device.told("done", 2)
        whole = sorted(path.name for path in device.paths.training.iterdir() if path.is_file())
        assert whole == ["joined", "residual-f-000000000001"]


async def test_a_network_that_is_cut_in_mid_upload_costs_the_round_and_nothing_more(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub), Way(superlink.address[1]) as way:
        address = f"127.0.0.1:{way.port}"
        device.take(device.offer(address))
        await device.told("joined")
        await hub.give(1, scheme="top", epochs=20)
        await until(lambda: device.part._attendance is not None and device.part._attendance._task == 1)
        way.cut_after(3000)  # some of the answer's parts
        failed = await device.told("failed")
        assert way.cut.is_set()
        assert failed.code == "training.link"
        assert hub.grid.pull() == []  # half an answer is none
        hub.grid.give_up()
        assert not list(device.paths.training.glob("residual-*"))
        way.mend()
        device.take(device.offer(address, 2))
        await device.told("joined", 2)
        await hub.give(2, scheme="top")
        assert (await hub.update()).any()
        await device.told("done", 2)
        assert list(device.paths.training.glob("residual-*"))


async def test_a_device_that_was_removed_leaves(tmp_path: Path, superlink: SuperLink, tls: Tls) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.take(device.offer(hub.address))
        await device.told("joined")
        superlink.expel_node(hub.node_id)
        failed = await device.told("failed")
        assert failed.code == "training.expelled"
        await until(lambda: children() == [])


async def test_a_device_that_the_hub_does_not_know_does_not_get_in(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    device = FederatedDevice(tmp_path / "state", tls.ca)
    device.keep(labelled_digits(0, 50))
    async with device.running():
        device.take(device.offer("{}:{}".format(*superlink.address)))
        assert (await device.told("failed")).code == "training.not_joined"
        await until(lambda: children() == [])


async def test_a_head_of_its_own_serves_where_it_is_better_and_goes_with_the_samples(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    device = FederatedDevice(tmp_path / "state", tls.ca, personal_samples=10)
    device.keep(labelled_digits(0, 200, swapped=True))
    hub = Hub(superlink, device)
    x, y = load_digits().test_x[:100], load_digits().test_y[:100]

    def agreed() -> float:
        return float((device.host.predict("digits", x).argmax(axis=1) == 9 - y).mean())

    async with device.running():
        before = agreed()
        device.take(device.offer(hub.address))
        await hub.give(personal=True, epochs=10)
        await hub.update()
        await until(lambda: device.part.heads.serves("digits"))
        assert before < 0.2
        assert agreed() > 0.7
        (count,) = device.part.counts()
        assert (count.kept, count.classes, count.personal) == (200, 10, True)
        (head,) = device.part.status().heads
        assert head.serves
        assert head.accuracy > head.bundle_accuracy
        kept = read_personal(device.paths.training, "digits", device.record.bundle_sha256, "")
        assert kept is not None
        device.buffer.erase()
        device.part.counts()  # a heartbeat looks again
        await until(lambda: not device.part.heads.serves("digits"))
        assert agreed() < 0.2
        assert not list(device.paths.training.glob("personal-*"))


async def test_the_training_process_can_reach_nothing_but_its_own(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    async with federated(tmp_path, superlink, tls) as (device, hub):
        device.module = "tests.training.prying_child"
        async with device.running():
            device.take(device.offer(hub.address))
            failed = await device.told("failed")
    assert failed.code == "training.pried"
    assert failed.reason == "identity refused, desired refused, other port refused, program refused, slot read"
    assert disk_bytes(device.paths.root)[1] > 0
