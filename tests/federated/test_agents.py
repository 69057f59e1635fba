"""A whole run: the real worker, and agents that take its offers up and train their heads on their own samples."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.flower.superlink import Tls
from hub.federated.protocol import Ask, Begin, Complete, Declined, Ended, FromWorker, Participant
from hub.federated.report import RoundReport
from hub.federated.run import definition_digest
from hub.federated.runner import RunProcess, worker_command
from shared.federated.vector import Vector
from shared.wire.training import Promise
from tests.federated.certificate import make_tls
from tests.federated.secure_kit import authority
from tests.federated.test_device import accuracy
from tests.ports import free_port
from tests.training.device import FederatedDevice, labelled_digits

RUN = "f-0000000000aa"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"))


class Fleet:
    """The hub's part of one run, with offers to devices in this process."""

    def __init__(self, folder: Path, tls: Tls, devices: list[FederatedDevice]) -> None:
        self.devices = {device.device_id: device for device in devices}
        self.process = RunProcess(worker_command(sys.executable), folder / "worker", self._heard)
        self.reports: list[RoundReport] = []
        self.kept: list[bytes] = []
        self.asked = asyncio.Event()
        self.promise = Promise()
        self._tls = tls
        self._port = free_port()
        self._loop = asyncio.get_running_loop()

    async def run(self, definition: RunDefinition) -> Ended:
        start = Checkpoint(
            run_id=RUN, definition=definition_digest(definition), seed=definition.seed, round_no=0,
            weights=np.zeros(650, np.float32),
        )  # fmt: skip
        begin = Begin(
            definition=definition,
            sizes=(10, 640),
            checkpoint=write_checkpoint(start),
            participants=[
                Participant(device_id=name, public_key=device.public_key, samples=200)
                for name, device in self.devices.items()
            ],
            host="127.0.0.1",
            port=self._port,
            certificate=str(self._tls.certificate),
            key=str(self._tls.key),
            ca=str(self._tls.ca),
            device_ca=authority().der,
        )  # fmt: skip
        return await asyncio.to_thread(self.process.run, begin)

    @property
    def weights(self) -> list[Vector]:
        return [read_checkpoint(kept).weights for kept in self.kept]

    def _heard(self, message: FromWorker) -> None:
        match message:
            case Ask(round_no=round_no, device_ids=device_ids):
                self._loop.call_soon_threadsafe(self._offer, round_no, device_ids)
            case Complete(report=report, checkpoint=checkpoint):
                self.reports.append(report)
                self.kept.append(checkpoint)

    def _offer(self, round_no: int, device_ids: list[str]) -> None:
        for name in device_ids:
            device = self.devices[name]
            device.take(device.offer(f"127.0.0.1:{self._port}", round_no, RUN, promise=self.promise))
        self.asked.set()


def definition(**training: Any) -> RunDefinition:
    plain: dict[str, Any] = {
        "model": "digits",
        "seed": 3,
        "rounds": {"count": 3, "goal": 2, "quorum": 2, "deadline_s": 90, "wait_s": 90},
        "training": {"epochs": 4, "learning_rate": 0.1, "scheme": "int8", **training},
        "strategy": {"name": "fedavg"},
    }
    return msgspec.convert(plain, RunDefinition)


async def test_agents_train_a_model_together_and_one_that_dies_does_not_stop_them(tmp_path: Path, tls: Tls) -> None:
    devices = [FederatedDevice(tmp_path / f"d{number}", tls.ca, f"d{number}") for number in range(3)]
    for number, device in enumerate(devices):
        device.keep(labelled_digits(200 * number, 200))
    async with devices[0].running(), devices[1].running(), devices[2].running():
        fleet = Fleet(tmp_path, tls, devices)
        ending = asyncio.create_task(fleet.run(definition()))
        await devices[2].told("joined")
        attendance = devices[2].part._attendance
        assert attendance is not None
        os.kill(attendance.pid, signal.SIGKILL)
        assert (await devices[2].told("failed")).code == "training.crashed"
        fleet.process.send(Declined(device_id="d2"))  # as the hub does when it hears of it
        assert await ending == Ended(end="finished")
        curve = [accuracy(devices[0], weights) for weights in fleet.weights]
        assert [report.round_no for report in fleet.reports] == [1, 2, 3]
        assert all({"d0", "d1"} <= set(report.admitted) for report in fleet.reports)
        assert not any(report.rejected for report in fleet.reports)
        assert curve[-1] > 0.8
        measured = [report.metrics["held_out_accuracy"] for report in fleet.reports]
        assert measured[-1] > measured[0]
        assert {report.state for report in devices[0].reports} == {"accepted", "joined", "done"}
        assert devices[0].part.status().peak_bytes < 130_000_000
