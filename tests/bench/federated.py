"""How well federated training learns scikit-learn's digits through the real worker, Flower, TLS and int8 updates.

`python -m tests.bench.federated` prints JSON. Ten devices (threads of one process, the agent's own node, a network
64-32-10 in NumPy), 30 rounds, 2 epochs, batches of 32, learning rate 0.1, Flower's FedYogi with step 0.03: the setting
of the reference table (flwr's strategies without any transport; accuracy in percent, mean of 5 seeds), which is printed
beside. Default: one seed, IID and Dirichlet 0.5. `--full`: five seeds, also Dirichlet 0.1 and two classes for each
device, also FedAvg. `--quick`: 3 rounds, to see that it runs. `round_s`: from the tasks' going out to the next weights,
training included (ten devices share this machine's cores).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.checkpoint import read_checkpoint
from hub.federated.definition import RunDefinition
from hub.federated.runner import worker_command
from tests.federated.certificate import make_tls
from tests.federated.federation import Federation
from tests.federated.network import accuracy
from tests.ports import free_port

__all__ = ["measure"]

DIMS = (64, 32, 10)
DEVICES = 10
REFERENCE = {
    "fedavg": {"iid": 94.50, "dir0.5": 93.83, "dir0.1": 90.44, "shards2": 88.78},
    "fedyogi": {"iid": 97.33, "dir0.5": 97.06, "dir0.1": 96.56, "shards2": 95.50},
}
PARAMETERS: dict[str, dict[str, float]] = {"fedavg": {}, "fedyogi": {"learning_rate": 0.03}}
Indices = NDArray[np.int64]


def split(labels: Indices, how: str, seed: int) -> list[Indices]:
    """The samples of each device."""
    rng = np.random.default_rng(seed)
    if how == "iid":
        return [np.asarray(part) for part in np.array_split(rng.permutation(len(labels)), DEVICES)]
    if how == "shards2":
        shards = np.array_split(np.argsort(labels, kind="stable"), 2 * DEVICES)
        order = rng.permutation(2 * DEVICES)
        return [np.concatenate([shards[a], shards[b]]) for a, b in order.reshape(DEVICES, 2)]
    while True:
        parts: list[list[int]] = [[] for _ in range(DEVICES)]
        for label in range(10):
            rows = rng.permutation(np.flatnonzero(labels == label))
            cuts = (np.cumsum(rng.dirichlet([float(how.removeprefix("dir"))] * DEVICES))[:-1] * len(rows)).astype(int)
            for part, piece in zip(parts, np.split(rows, cuts), strict=True):
                part.extend(piece.tolist())
        if min(map(len, parts)) >= 5:
            return [np.array(part) for part in parts]


def measure(how: str, strategy: str, seed: int, rounds: int) -> dict[str, Any]:
    """One run: accuracy on held-out images, seconds and bytes for each round."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    x, y = (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int64)
    plain = {
        "model": "digits",
        "seed": seed,
        "rounds": {"count": rounds, "goal": DEVICES, "quorum": DEVICES, "deadline_s": 120},
        "training": {"epochs": 2, "learning_rate": 0.1, "scheme": "int8", "min_samples": 1},
        "strategy": {"name": strategy, "parameters": PARAMETERS[strategy]},
        "admission": {"norm_factor": 1000},
    }
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(Path(folder), make_tls(Path(folder)), worker_command(sys.executable), DIMS)
        for rows in split(y[:1437], how, seed):
            federation.add(x[rows], y[rows])
        ended = federation.run(msgspec.convert(plain, RunDefinition), free_port())
        curve = [accuracy(read_checkpoint(kept).weights, DIMS, x[1437:], y[1437:]) for kept in federation.kept]
    reports = federation.reports
    return {
        "end": ended.end,
        "accuracy": round(100 * curve[-1], 2),
        "round_s": round(median(report.seconds for report in reports), 3),
        "bytes_up": round(mean(report.bytes_up for report in reports)),
        "bytes_down": round(mean(report.bytes_down for report in reports)),
        "curve": [round(100 * value, 1) for value in curve],
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    splits = ["iid", "dir0.5", "dir0.1", "shards2"] if arguments.full else ["iid", "dir0.5"]
    strategies = ["fedyogi", "fedavg"] if arguments.full else ["fedyogi"]
    seeds = range(5) if arguments.full else range(1)
    found: dict[str, Any] = {}
    for strategy in strategies:
        for how in splits:
            runs = [measure(how, strategy, seed, 3 if arguments.quick else 30) for seed in seeds]
            found[f"{strategy} {how}"] = {
                "accuracy_percent": round(mean(run["accuracy"] for run in runs), 2),
                "reference_percent": REFERENCE[strategy][how],
                "runs": runs,
            }
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
