"""A real device in secure aggregation: its training process goes through all stages beside two scripted peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agent.training.secure import SecureSession
from hub.federated.flower.grid import Failure, Grid, Reply, Task
from hub.federated.flower.superlink import SuperLink, Tls
from hub.federated.secure import Aggregation
from shared.federated.secagg.fixed import Scale, pack, unpack, words
from shared.federated.vector import Vector
from shared.wire.training import Promise
from tests.federated.certificate import make_tls
from tests.federated.secure_kit import SESSION, authority
from tests.training.device import FederatedDevice, labelled_digits

SIZE = 650
NOTHING = np.zeros(0, np.float32)
CONFIG: dict[str, int | float | str] = {"round": 1, "epochs": 2, "learning_rate": 0.1, "clip": 1e4}
PEERS = ("dev2", "dev3")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def superlink(tls: Tls) -> Iterator[SuperLink]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        link = SuperLink(sock, tls).start()
        yield link
        link.stop()


class _Hub:
    """Asks the one device that is real."""

    def __init__(self, superlink: SuperLink, device: FederatedDevice) -> None:
        self.address = "{}:{}".format(*superlink.address)
        self._grid = Grid(superlink)
        self._node_id = superlink.admit_node(device.public_key)

    async def ask(self, kind: str, payload: bytes, weights: Vector = NOTHING) -> Reply | Failure:
        async with asyncio.timeout(120):
            while self._node_id not in self._grid.nodes():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.02)
            config: dict[str, int | float | str] = CONFIG if kind == "train" else {"round": 1}
            task = Task(
                node_id=self._node_id, weights=weights, config=config, ttl_s=120.0, kind=kind, payload=payload
            )
            assert self._grid.push([task]) != [""]
            while not (found := self._grid.pull()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[0]

    async def answer(self, kind: str, payload: bytes, weights: Vector = NOTHING) -> bytes:
        reply = await self.ask(kind, payload, weights)
        assert isinstance(reply, Reply), reply
        assert reply.update is not None
        return reply.update


def _device(folder: Path, tls: Tls) -> FederatedDevice:
    """Its certificate is of the authority of its peers."""
    device = FederatedDevice(folder, tls.ca)
    key = load_der_public_key(device.public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    device.store.credentials().certificate.write_bytes(authority().certify("dev1", key))
    device.keep(labelled_digits(0, 100))
    return device


async def test_a_real_device_goes_through_all_stages_and_its_update_is_in_the_sum(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    device, size = _device(tmp_path, tls), words(SIZE)
    peers = {name: SecureSession(name, *authority().device(name)) for name in PEERS}
    async with device.running():
        hub, sums = _Hub(superlink, device), Aggregation(SESSION, authority().der)
        device.take(device.offer(hub.address, promise=Promise(secure_aggregation=True)))
        sums.advert("dev1", await hub.answer("query", sums.open()))
        for name, peer in peers.items():
            sums.advert(name, peer.answer(sums.open()))
        rosters = sums.rosters()
        sums.shares("dev1", await hub.answer("query", rosters["dev1"]))
        for name, peer in peers.items():
            sums.shares(name, peer.answer(rosters[name]))
        scale = Scale(reach=4.0, max_weight=200, devices=3)
        tasks = sums.tasks(scale)
        sums.masked("dev1", await hub.answer("train", tasks["dev1"], np.zeros(SIZE, np.float32)), size)
        nothing = pack(scale, np.zeros(SIZE, np.float32), 1, 0.5, {})
        for name, peer in peers.items():
            sums.masked(name, peer.mask(peer.accept(tasks[name]), nothing), size)
        questions = sums.unmask()
        sums.reveal("dev1", await hub.answer("query", questions["dev1"]))
        for name, peer in peers.items():
            sums.reveal(name, peer.answer(questions[name]))
        total = unpack(scale, sums.total(size), SIZE, 3)
        await device.told("done", 1)
    assert 62 < total.weight < 102  # a share of its 100 samples is held out
    assert 0.01 < np.abs(total.mean).max() < 4.0
    assert set(total.metrics) == {"accuracy", "held_out_accuracy", "held_out_loss", "loss"}
    assert [report.state for report in device.reports] == ["accepted", "joined", "done"]


async def test_a_device_that_was_promised_sums_trains_for_nothing_else(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    device = _device(tmp_path, tls)
    async with device.running():
        hub = _Hub(superlink, device)
        device.take(device.offer(hub.address, promise=Promise(secure_aggregation=True)))
        refused = await hub.ask("train", b"", np.zeros(SIZE, np.float32))
        assert isinstance(refused, Failure)
        assert "training.promise" in refused.reason
        await device.told("failed", 1)
    assert device.reports[-1].code == "training.promise"
