"""What privacy costs: accuracy against epsilon on scikit-learn's digits, and a secure round beside a plain one.

`python -m tests.bench.federated_privacy` prints JSON. `accuracy`: a softmax regression (650 weights), IID, 20 rounds of
all devices, one epoch with learning rate 0.5, FedAvg, an adaptive clip from 1.0 on; delta is 1/(10 * devices). The
noise is the least that pays for all rounds. No sockets; the hub's run and mechanism and the devices' protection are
those that ship. `round`: ten devices through the real worker, Flower and TLS, plain and secure by turns; `round_s`:
from the tasks' going out to the next weights (ten devices share this machine's cores with the hub). `--quick`: to see
that it runs. `load`: the machine's at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.training.orders import Order, parse_training
from agent.training.protection import Protection
from hub.federated.accountant import epsilon_at
from hub.federated.checkpoint import Checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.flower.strategies import Aggregator
from hub.federated.run import Run, definition_digest
from hub.federated.runner import worker_command
from hub.federated.synchronous import run_rounds
from hub.federated.tasks import Reply, Task
from tests.federated.certificate import make_tls
from tests.federated.federation import Federation
from tests.federated.fleet import Fleet
from tests.federated.network import accuracy, initial, sizes, train
from tests.ports import free_port

__all__ = ["measure_accuracy", "measure_rounds"]

DIMS = (64, 10)
EPSILONS = (None, 100.0, 32.0, 16.0, 8.0, 4.0, 2.0)
Vector = NDArray[np.float32]
Labels = NDArray[np.int64]


def digits() -> tuple[Vector, Labels]:
    """All images, in the order of the reference table."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    return (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int64)


def multiplier(epsilon: float, delta: float, rounds: int) -> float:
    """The least noise with which so many rounds cost at most `epsilon`."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon_at(delta, middle, rounds) <= epsilon else (middle, high)
    return high


class _Device:
    def __init__(self, x: Vector, y: Labels) -> None:
        self._x, self._y = x, y
        self._protection = Protection()

    def __call__(self, fleet: Fleet, task: Task) -> Reply:
        order = Order(kind=task.kind, weights=task.weights, config=task.config, expires_s=0.0)
        wanted = parse_training(order.config)
        self._protection.check(order, wanted)
        rate = wanted.learning_rate
        moved = train(order.weights, DIMS, self._x, self._y, wanted.epochs, rate, wanted.round)
        answer, _ = self._protection.write(moved - order.weights, len(self._x), {}, wanted, sizes(DIMS))
        return Reply(
            task_id="", node_id=task.node_id, examples=answer.examples, metrics={**answer.metrics}, update=answer.update
        )


def measure_accuracy(mode: str, epsilon: float | None, devices: int, rounds: int, seed: int) -> tuple[float, float]:
    """Accuracy in percent on held-out images, and the noise multiplier."""
    x, y = digits()
    delta = 1 / (10 * devices)
    noise = 0.0 if epsilon is None else multiplier(epsilon, delta, rounds)
    privacy: dict[str, Any] = {}
    if epsilon is not None:
        privacy = {
            "mode": mode,
            "noise_multiplier": noise,
            "epsilon": epsilon * 1.0001,
            "delta": delta,
            "adaptive": True,
        }
    plain = {
        "model": "digits",
        "seed": seed,
        "rounds": {"count": rounds, "goal": devices, "quorum": devices, "deadline_s": 120},
        "training": {"epochs": 1, "learning_rate": 0.5, "scheme": "float32", "min_samples": 1},
        "strategy": {"name": "fedavg"},
        "admission": {"norm_factor": 1000},
        "privacy": privacy,
    }
    definition, fleet = msgspec.convert(plain, RunDefinition), Fleet()
    order = np.random.default_rng(seed).permutation(1437)
    for number, rows in enumerate(np.array_split(order, devices), 1):
        fleet.scripts[number] = _Device(x[rows], y[rows])
    start = Checkpoint(
        run_id="f-1", definition=definition_digest(definition), seed=seed, round_no=0, weights=initial(DIMS, seed)
    )
    run = Run(definition, sizes(DIMS), start, fleet, Aggregator("fedavg"), fleet)
    for number in range(1, devices + 1):
        run.roster.enrol(f"d-{number:04}", number, samples=10)
        fleet.online.add(number)
    run_rounds(run)
    return 100 * accuracy(run.weights, DIMS, x[1437:], y[1437:]), noise


def measure_rounds(privacy: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Ten devices through the real worker."""
    x, y = digits()
    plain = {
        "model": "digits",
        "rounds": {"count": rounds, "goal": 10, "quorum": 10, "deadline_s": 120},
        "training": {"epochs": 2, "learning_rate": 0.1, "min_samples": 1},
        "strategy": {"name": "fedavg"},
        "admission": {"norm_factor": 1000},
        "privacy": privacy,
        "evaluation": {"on_devices": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder), make_tls(Path(folder)), worker_command(sys.executable), DIMS)
        for rows in np.array_split(np.arange(1430), 10):
            federation.add(x[rows], y[rows])
        ended = federation.run(msgspec.convert(plain, RunDefinition), free_port())
        found = accuracy(federation.weights, DIMS, x[1437:], y[1437:])
    reports = federation.reports
    return {
        "end": ended.end,
        "round_s": [report.seconds for report in reports],
        "bytes_up": round(mean(report.bytes_up for report in reports)),
        "bytes_down": round(mean(report.bytes_down for report in reports)),
        "accuracy_percent": round(100 * found, 2),
    }


def _accuracies(quick: bool) -> list[dict[str, Any]]:
    cases = [("server", 100), ("server", 400), ("client", 100)]
    found = []
    for mode, devices in cases[:1] if quick else cases:
        for epsilon in EPSILONS[:2] if quick else EPSILONS:
            runs = [
                measure_accuracy(mode, epsilon, devices, 3 if quick else 20, seed) for seed in range(1 if quick else 3)
            ]
            found.append(
                {
                    "mode": mode,
                    "devices": devices,
                    "epsilon": epsilon,
                    "noise_multiplier": round(runs[0][1], 3),
                    "accuracy_percent": round(mean(run[0] for run in runs), 1),
                    "worst_percent": round(min(run[0] for run in runs), 1),
                }
            )
    return found


def _rounds(quick: bool) -> dict[str, Any]:
    count, turns = (1, 1) if quick else (4, 2)
    runs: dict[str, list[dict[str, Any]]] = {"plain": [], "secure": []}
    for _ in range(turns):
        runs["plain"].append(measure_rounds({}, count))
        runs["secure"].append(measure_rounds({"secure_aggregation": True}, count))
    middle = {name: median(s for run in some for s in run["round_s"]) for name, some in runs.items()}
    return {
        "round_s": {name: round(value, 3) for name, value in middle.items()},
        "times_plain": round(middle["secure"] / middle["plain"], 2),
        "bytes_up": {name: some[0]["bytes_up"] for name, some in runs.items()},
        "bytes_down": {name: some[0]["bytes_down"] for name, some in runs.items()},
        "accuracy_percent": {name: some[0]["accuracy_percent"] for name, some in runs.items()},
        "runs": runs,
    }


def main() -> int:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["accuracy", "round"])
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    if arguments.only != "round":
        found["accuracy"] = _accuracies(arguments.quick)
    if arguments.only != "accuracy":
        found["round"] = _rounds(arguments.quick)
    found["load"] = [round(value, 1) for value in os.getloadavg()]
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
