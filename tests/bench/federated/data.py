"""The data of the benchmark, and how it is divided among devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.demo_app.data import load

__all__ = ["SPLITS", "Data", "digits", "fashion", "split"]

Indices = NDArray[np.int64]
SPLITS = ("iid", "dir0.5", "dir0.1", "shards2")
_TRAINED = 1437


@dataclass(frozen=True, slots=True)
class Data:
    """Rows of uint8 pixels up to `peak`, and classes. What is in `held_*` no device and no centre learns from."""

    x: NDArray[np.uint8]
    y: Indices
    held_x: NDArray[np.uint8]
    held_y: Indices
    peak: int


def digits() -> Data:
    """scikit-learn's digits as in the reference table: 1,437 to learn from, 360 to measure on."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.RandomState(0).permutation(len(found.target))
    x, y = found.data[order].astype(np.uint8), found.target[order].astype(np.int64)
    return Data(x[:_TRAINED], y[:_TRAINED], x[_TRAINED:], y[_TRAINED:], 16)


def fashion(cache: Path) -> Data:
    """Fashion-MNIST, from where the demo takes it."""
    found = load("fashion-mnist", cache)
    return Data(found.train_x, found.train_y, found.test_x, found.test_y, found.peak)


def split(labels: Indices, how: str, devices: int, seed: int, least: int = 5) -> list[Indices]:
    """The samples of each device: `iid`, `shards2` (two pieces of the sorted data), `dirA` (Dirichlet, parameter A)."""
    rng = np.random.default_rng(seed)
    if how == "iid":
        return [np.asarray(part) for part in np.array_split(rng.permutation(len(labels)), devices)]
    if how == "shards2":
        shards = np.array_split(np.argsort(labels, kind="stable"), 2 * devices)
        order = rng.permutation(2 * devices)
        return [np.concatenate([shards[a], shards[b]]) for a, b in order.reshape(devices, 2)]
    while True:
        parts: list[list[int]] = [[] for _ in range(devices)]
        for label in range(int(labels.max()) + 1):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet([float(how.removeprefix("dir"))] * devices)
            cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for part, piece in zip(parts, np.split(rows, cuts), strict=True):
                part.extend(piece.tolist())
        if min(map(len, parts)) >= least:
            return [np.array(part) for part in parts]
