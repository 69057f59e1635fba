"""Real agents in secure aggregation: their training processes go through all its stages, and refuse anything less."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from hub.federated.definition import Privacy, Rounds
from hub.federated.flower.grid import Failure, Grid, Reply, Task
from hub.federated.flower.superlink import SuperLink, Tls
from hub.federated.protocol import Ended
from shared.federated.vector import Vector
from shared.wire.training import Promise
from tests.federated.certificate import make_tls
from tests.federated.secure_kit import authority
from tests.federated.test_agents import Fleet, definition
from tests.federated.test_device import accuracy
from tests.training.device import FederatedDevice, labelled_digits

SIZE = 650
NOTHING = np.zeros(0, np.float32)
CONFIG: dict[str, int | float | str] = {"round": 1, "epochs": 2, "learning_rate": 0.1, "clip": 1e4}


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


def _device(folder: Path, tls: Tls, name: str, first: int) -> FederatedDevice:
    """Its certificate is of the authority of its peers."""
    device = FederatedDevice(folder, tls.ca, name)
    key = load_der_public_key(device.public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    device.store.credentials().certificate.write_bytes(authority().certify(name, key))
    device.keep(labelled_digits(first, 150))
    return device


async def test_agents_train_a_model_together_and_the_hub_sees_their_sum_only(tmp_path: Path, tls: Tls) -> None:
    devices = [_device(tmp_path / name, tls, name, 150 * number) for number, name in enumerate(("d0", "d1", "d2"))]
    async with devices[0].running(), devices[1].running(), devices[2].running():
        fleet = Fleet(tmp_path, tls, devices)
        fleet.promise = Promise(secure_aggregation=True)
        wanted = msgspec.structs.replace(
            definition(epochs=2),
            rounds=Rounds(count=2, goal=3, quorum=3, deadline_s=120, wait_s=120),
            privacy=Privacy(secure_aggregation=True),
        )
        assert await fleet.run(wanted) == Ended(end="finished")
        first, second = fleet.reports
        assert first.admitted == second.admitted == ["d0", "d1", "d2"]
        assert second.metrics["held_out_accuracy"] > first.metrics["held_out_accuracy"]
        assert set(first.metrics) == {"accuracy", "held_out_accuracy", "held_out_loss", "loss"}
        assert accuracy(devices[0], fleet.weights[-1]) > 0.7
        for device in devices:
            assert [report.state for report in device.reports if report.round_no == 1][-1] == "done"


async def test_a_device_that_was_promised_sums_trains_for_nothing_else(
    tmp_path: Path, superlink: SuperLink, tls: Tls
) -> None:
    device = _device(tmp_path, tls, "dev1", 0)
    async with device.running():
        hub = _Hub(superlink, device)
        device.take(device.offer(hub.address, promise=Promise(secure_aggregation=True)))
        refused = await hub.ask("train", b"", np.zeros(SIZE, np.float32))
        assert isinstance(refused, Failure)
        assert "training.promise" in refused.reason
        await device.told("failed", 1)
    assert device.reports[-1].code == "training.promise"
