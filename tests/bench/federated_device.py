"""What training costs the device that does it: `python -m tests.bench.federated_device [--rounds N]`. Prints JSON.

A federation of one device: the agent's parts and the real SuperLink in this process, its real training process as a
Flower node. Predictions at a fixed rate in a third process: with nothing else, while the device trains without a pause,
and with nothing else again; their ratio is the figure, because the machine's own speed cancels out. Limits are in
`LIMITS`; the exit code is 1 when one is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from agent.inference.host import ModelHost
from agent.training.readings import child_cpu_s
from hub.federated.flower.grid import Failure, Grid, Task
from hub.federated.flower.superlink import SuperLink
from tests.federated.certificate import make_tls
from tests.models import load_digits, unpacked_digits
from tests.training.device import FederatedDevice, labelled_digits

LIMITS = {"peak_bytes": 130 * 1000 * 1000, "p99_ratio": 2.0, "hub_cpu_per_round_s": 0.1}
RATE = 500
_SAMPLES = 1000
_LOOK_S = 0.05


def predictions(folder: Path, seconds: float) -> dict[str, float]:
    """Latency of predictions at a fixed rate, in microseconds."""
    host = ModelHost()
    host.swap("digits", host.load("digits", folder))
    x, times = load_digits().test_x, []
    began = time.perf_counter()
    for number in range(int(RATE * seconds)):
        time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        row = x[number % len(x)][None]
        start = time.perf_counter_ns()
        host.predict("digits", row)
        times.append(time.perf_counter_ns() - start)
    host.close()
    times.sort()
    return {"p50_us": times[len(times) // 2] / 1000, "p99_us": times[len(times) * 99 // 100] / 1000}


async def beside(folder: Path, seconds: float) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.federated_device", "--predict", str(folder), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output, _ = await process.communicate()
    found: dict[str, float] = json.loads(output)
    return found


class Federation:
    """The hub's part, with the processor time that it takes."""

    def __init__(self, folder: Path) -> None:
        self.tls = make_tls(folder)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._link = SuperLink(self._sock, self.tls).start()
        self.address = "{}:{}".format(*self._link.address)
        self.grid = Grid(self._link)
        self.weights = np.zeros(650, np.float32)

    def admit(self, device: FederatedDevice) -> int:
        return self._link.admit_node(device.public_key)

    async def round(self, device: FederatedDevice, node_id: int, round_no: int, epochs: int) -> float:
        """One round; its seconds."""
        began = time.perf_counter()
        device.take(device.offer(self.address, round_no))
        while node_id not in self.grid.nodes():  # noqa: ASYNC110 - another process joins
            await asyncio.sleep(_LOOK_S)
        config: dict[str, int | float | str] = {
            "round": round_no, "epochs": epochs, "learning_rate": 0.05, "scheme": "int8", "held_out": 0.2,
        }  # fmt: skip
        self.grid.push([Task(node_id=node_id, weights=self.weights, config=config, ttl_s=120.0)])
        while not (found := self.grid.pull()):  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(_LOOK_S)
        if isinstance(found[0], Failure):
            raise RuntimeError(found[0].reason)
        return time.perf_counter() - began

    def stop(self) -> None:
        self._link.stop()


async def training(device: FederatedDevice, hub: Federation, node_id: int, first: int, stop: asyncio.Event) -> int:
    """Rounds without a pause until `stop`; how many."""
    round_no = first
    while not stop.is_set():
        await hub.round(device, node_id, round_no, 100)
        round_no += 1
    return round_no - first


async def rounds_alone(folder: Path, rounds: int) -> dict[str, Any]:
    """What one round takes, cold and warm, and the most memory of the process."""
    hub = Federation(folder)
    device = FederatedDevice(folder / "state", hub.tls.ca, watch_s=2.0)
    device.keep(labelled_digits(0, _SAMPLES))
    node_id = hub.admit(device)
    async with device.running():
        first_s = await hub.round(device, node_id, 1, 2)
        spent, mine = time.process_time(), time.thread_time()
        warm = [await hub.round(device, node_id, number, 2) for number in range(2, rounds + 2)]
        own_s = (time.thread_time() - mine) / rounds
        hub_s = (time.process_time() - spent) / rounds - own_s
        peak = device.part.status().peak_bytes
    hub.stop()
    return {
        "first_round_s": round(first_s, 2),
        "warm_round_s": round(statistics.median(warm), 3),
        "hub_cpu_per_round_s": round(hub_s, 4),  # of the SuperLink's threads
        "daemon_cpu_per_round_s": round(own_s, 4),  # with what gives the tasks and looks for the answers
        "peak_bytes": peak,
    }


async def latencies(folder: Path, seconds: float) -> dict[str, Any]:
    """Predictions alone, while a device trains without a pause, and alone again."""
    hub = Federation(folder)
    trainer = "tests.bench.long_trainer:LongTrainer"
    device = FederatedDevice(folder / "state", hub.tls.ca, watch_s=2.0, trainer=trainer)
    device.keep(labelled_digits(0, _SAMPLES))
    unpacked_digits(folder / "slot", 1)
    node_id = hub.admit(device)
    async with device.running():
        await hub.round(device, node_id, 1, 1)
        process = device.part._attendance.pid if device.part._attendance is not None else 0
        alone = await beside(folder / "slot", seconds)
        stop = asyncio.Event()
        trains = asyncio.create_task(training(device, hub, node_id, 2, stop))
        await asyncio.sleep(1.0)
        before, at = child_cpu_s(process), time.perf_counter()
        during = await beside(folder / "slot", seconds)
        percent = 100 * (child_cpu_s(process) - before) / (time.perf_counter() - at)
        stop.set()
        await trains
        again = await beside(folder / "slot", seconds)
    hub.stop()
    quiet = statistics.mean([alone["p99_us"], again["p99_us"]])
    return {
        "inference": {"rate_per_s": RATE, "alone": alone, "while_training": during, "alone_again": again},
        "training_cpu_percent_of_a_core": round(percent, 1),
        "p99_ratio": round(during["p99_us"] / quiet, 2),
    }


async def measure(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """All figures."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    figures: dict[str, Any] = {"benchmark": "federated_device", "load_1m": round(os.getloadavg()[0], 2)}
    figures |= {"samples": _SAMPLES, **await rounds_alone(folder / "a", rounds)}
    figures |= {**await latencies(folder / "b", seconds), "limits": LIMITS}
    figures["kept"] = all(figures[name] <= limit for name, limit in LIMITS.items())
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="of predictions, three times")
    parser.add_argument("--predict", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        print(json.dumps(predictions(Path(options.predict[0]), float(options.predict[1]))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), options.rounds, options.seconds))
    print(json.dumps(figures, indent=2))
    return 0 if figures["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
