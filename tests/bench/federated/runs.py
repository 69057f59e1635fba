"""The measurements of the benchmark; each gives what is printed as JSON."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.definition import RunDefinition
from shared.federated.vector import flatten
from tests.bench.federated import stock
from tests.bench.federated.data import SPLITS, Data, digits, fashion, split
from tests.bench.federated.local import run_local
from tests.bench.federated.model import accuracy, central_head, released_accuracy
from tests.bench.federated.setting import Ran, Setting, Share
from tests.bench.federated.stage import run_real

__all__ = ["attack", "crowd", "fashion_mnist", "overhead", "same", "table"]

DIMS = (64, 32, 10)
DEVICES = 10
BEST = {"iid": 97.33, "dir0.5": 97.06, "dir0.1": 96.56, "shards2": 95.50}
"""The best column of the reference table: Flower's FedYogi without transport, TFLite and int8, mean of 5 seeds."""
Runner = Callable[[Setting], Ran]


def load() -> str:
    """The machine's load averages, which belong beside every time."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def runner(local: bool) -> Runner:
    """How runs are done."""
    return run_local if local else run_real


def definition(seed: int, rounds: int, goal: int = DEVICES, **more: Any) -> RunDefinition:
    """The default policy; nothing is held out, because accuracy is measured on data that no device has."""
    plain: dict[str, Any] = {
        "model": "bench",
        "seed": seed,
        "rounds": {"count": rounds, "goal": goal, "quorum": max(1, goal // 2), "deadline_s": 120},
        "training": {"epochs": 2, "learning_rate": 0.1, "held_out": 0.0, "min_samples": 1},
    }
    for name, value in more.items():
        plain[name] = {**plain.get(name, {}), **value}
    return msgspec.convert(plain, RunDefinition)


def setting(data: Data, how: str, seed: int, rounds: int, bad: int = 0, behaviour: str = "honest") -> Setting:
    """Ten devices with their parts of the digits; the first `bad` of them behave so."""
    parts = split(data.y, how, DEVICES, seed)
    shares = [
        Share(f"d-{n}", data.x[rows], data.y[rows], behaviour if n < bad else "honest") for n, rows in enumerate(parts)
    ]
    return Setting(DIMS, data, shares, definition(seed, rounds))


def _spread(values: list[float]) -> float:
    return round(stdev(values), 2) if len(values) > 1 else 0.0


def table(splits: list[str], seeds: int, rounds: int, local: bool) -> dict[str, Any]:
    """Digits: accuracy for each split, of the float32 network and of the release with int8 layers."""
    data, found = digits(), {}
    for how in splits:
        last, released, round_s, up, down = [], [], [], [], []
        for seed in range(seeds):
            one = setting(data, how, seed, rounds)
            ran = runner(local)(one)
            last.append(ran.curve(one)[-1])
            released.append(round(100 * released_accuracy(ran.weights[-1], DIMS, data), 2))
            round_s += [report.seconds for report in ran.complete]
            up += [report.bytes_up for report in ran.complete]
            down += [report.bytes_down for report in ran.complete]
        found[how] = {
            "accuracy_percent": round(mean(last), 2),
            "spread": _spread(last),
            "seeds": last,
            "best_column_percent": BEST[how],
            "released_int8_percent": round(mean(released), 2),
            "round_s": round(median(round_s), 3),
            "bytes_up_round": round(mean(up)),
            "bytes_down_round": round(mean(down)),
        }
    return {"load": load(), "rounds": rounds, "path": "local" if local else "worker, Flower, TLS", "splits": found}


def same(how: str, rounds: int) -> dict[str, Any]:
    """Whether both ways of doing a run give the same weights, to the bit, so that accuracies of `--local` hold."""
    one = setting(digits(), how, 0, rounds)
    real, quick = run_real(one), run_local(one)
    equal = [bool(np.array_equal(a, b)) for a, b in zip(real.weights, quick.weights, strict=True)]
    return {
        "load": load(),
        "split": how,
        "rounds": len(equal),
        "equal": all(equal),
        "accuracy_percent": real.curve(one)[-1],
        "round_s": round(median(report.seconds for report in real.complete), 3),
    }


def attack(splits: list[str], behaviours: list[str], seeds: int, rounds: int, local: bool) -> dict[str, Any]:
    """Two of ten devices attack; the default policy, beside the same runs without attackers."""
    data, found = digits(), {}
    for how in splits:
        for behaviour in ("honest", *behaviours):
            bad = 0 if behaviour == "honest" else 2
            last, ends, rejected = [], [], 0
            for seed in range(seeds):
                one = setting(data, how, seed, rounds, bad, behaviour)
                ran = runner(local)(one)
                last.append(ran.curve(one)[-1])
                ends.append(ran.end)
                rejected += sum(len(report.rejected) for report in ran.reports)
            found[f"{how} {behaviour}"] = {
                "accuracy_percent": round(mean(last), 2), "seeds": last, "ends": ends, "rejected": rejected
            }  # fmt: skip
    return {"load": load(), "rounds": rounds, "path": "local" if local else "worker, Flower, TLS", "runs": found}


def fashion_mnist(rounds: int, hidden: int, cache: Path, local: bool) -> dict[str, Any]:
    """Twenty devices, Dirichlet 0.3; beside it the same network, trained in one place on all data."""
    data, dims = fashion(cache), (784, hidden, 10)
    parts = split(data.y, "dir0.3", 20, 0, least=100)
    shares = [Share(f"d-{n}", data.x[rows], data.y[rows]) for n, rows in enumerate(parts)]
    one = Setting(dims, data, shares, definition(0, rounds, goal=20))
    ran = runner(local)(one)
    central = central_head(dims, data, epochs=10)
    reports = ran.complete
    return {
        "load": load(),
        "path": "local" if local else "worker, Flower, TLS",
        "curve": ran.curve(one),
        "central_percent": round(100 * accuracy(flatten(central), dims, data), 2),
        "samples_of_devices": [len(rows) for rows in parts],
        "round_s": round(median(report.seconds for report in reports), 2),
        "bytes_up_client_round": round(mean(r.bytes_up / max(1, len(r.joined)) for r in reports)),
        "bytes_down_client_round": round(mean(r.bytes_down / max(1, len(r.joined)) for r in reports)),
        "end": ran.end,
    }


def overhead(rounds: int, with_stock: bool) -> dict[str, Any]:
    """Ten devices: what a round takes beyond the slowest training, and the worker's processor time."""
    one = setting(digits(), "iid", 0, rounds)
    ran = run_real(one)
    beyond = [r.seconds - max(ran.times[r.round_no].values()) for r in ran.complete if r.round_no in ran.times]
    steps = np.diff(ran.worker_cpu_s) / DEVICES
    found: dict[str, Any] = {
        "load": load(),
        "round_s": round(median(r.seconds for r in ran.complete), 3),
        "beyond_slowest_training_s": round(median(beyond), 3),
        "worker_cpu_s_client_round": round(float(np.median(steps)), 4),
        "worker_mib": ran.worker_mib[-1],
    }
    if with_stock:
        found["stock_flower"] = stock.measure(3)
    return found


def crowd(devices: int, goal: int, rounds: int, processes: int) -> dict[str, Any]:
    """Many simulated devices with the real protocol; a tenth of them never answers."""
    data = digits()
    rng = np.random.default_rng(0)
    shares = []
    for number in range(devices):
        rows: NDArray[np.int64] = rng.integers(0, len(data.y), 40)
        behaviour = "drops" if number % 10 == 0 else "honest"
        shares.append(Share(f"d-{number:04d}", data.x[rows], data.y[rows], behaviour))
    one = Setting(DIMS, data, shares, definition(0, rounds, goal=goal))
    ran = run_real(one, processes)
    reports = ran.complete
    return {
        "load": load(),
        "end": ran.end,
        "devices": devices,
        "rounds": len(reports),
        "seconds": ran.seconds,
        "round_s": [report.seconds for report in reports],
        "asked": [len(report.asked) for report in reports],
        "admitted": [len(report.admitted) for report in reports],
        "dropped": [len(report.dropped) for report in reports],
        "bytes_up": sum(report.bytes_up for report in reports),
        "bytes_down": sum(report.bytes_down for report in reports),
        "worker_mib": list(ran.worker_mib),
        "worker_cpu_s": ran.worker_cpu_s[-1] if ran.worker_cpu_s else 0.0,
        "accuracy_percent": ran.curve(one)[-1],
    }


def scratch() -> Path:
    """Where a downloaded data set is kept between runs."""
    return Path(tempfile.gettempdir()) / "skerry-bench-data"


ALL_SPLITS = list(SPLITS)
