"""Devices of a federation in one process: `python -m tests.federated.devices PLAN`, a thread for each.

Each has its share of the samples and trains a softmax head with NumPy, through the agent's own node. It says `ready`
when all are connected. What Flower does to a process whose hub is gone (SIGINT) ends this one and not the test.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from numpy.typing import NDArray

from agent.training.flower_node import Answer, Order, join
from shared.federated.codec import Scheme, encode

__all__ = ["FEATURES", "SIZES", "Plan", "Share", "accuracy", "train"]

FEATURES = 64
CLASSES = 10
SIZES = (FEATURES * CLASSES, CLASSES)
Vector = NDArray[np.float32]
_IDLE_S = 0.05


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One device: its key, its samples (an .npz with x and y), and whether it is honest."""

    device_id: str
    key: str
    samples: str
    behaviour: str = "honest"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, and who."""

    address: str
    ca: str
    shares: list[Share]


def _logits(flat: Vector, x: Vector) -> Vector:
    return np.asarray(x @ flat[: SIZES[0]].reshape(FEATURES, CLASSES) + flat[SIZES[0] :], np.float32)


def accuracy(flat: Vector, x: Vector, y: NDArray[np.int64]) -> float:
    """The share of `x` that the head names rightly."""
    return float((_logits(flat, x).argmax(axis=1) == y).mean())


def train(flat: Vector, x: Vector, y: NDArray[np.int64], epochs: int, rate: float, seed: int) -> Vector:
    """The head after so many epochs in batches of 32."""
    rng, moved = np.random.default_rng(seed), flat.copy()
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), 32):
            rows = order[start : start + 32]
            scores = np.exp(_logits(moved, x[rows]) - _logits(moved, x[rows]).max(axis=1, keepdims=True))
            slope = scores / scores.sum(axis=1, keepdims=True) - np.eye(CLASSES, dtype=np.float32)[y[rows]]
            gradient = np.concatenate([(x[rows].T @ slope).ravel(), slope.sum(axis=0)]) / len(rows)
            moved = (moved - rate * gradient).astype(np.float32)
    return moved


class _Device:
    def __init__(self, share: Share) -> None:
        self._share = share
        with np.load(share.samples) as data:
            self._x, self._y = data["x"], data["y"]

    def work(self, order: Order) -> Answer:
        behaviour = self._share.behaviour
        if behaviour == "fails":
            raise RuntimeError("the sensor is wet")
        config = order.config
        epochs, rate = int(config["epochs"]), float(config["learning_rate"])
        moved = train(order.weights, self._x, self._y, epochs, rate, int(config["round"]))
        update, _ = encode(moved - order.weights, SIZES, Scheme(str(config["scheme"])))
        if behaviour == "nan":
            update = b"\x01" + np.full(sum(SIZES), np.nan, "<f4").tobytes()
        examples = 10**9 if behaviour == "lies" else len(self._x)
        measured = {"held_out_accuracy": accuracy(order.weights, self._x, self._y)}
        return Answer(update=update, examples=examples, metrics=measured)


def _serve(plan: Plan, share: Share, connected: threading.Barrier) -> None:
    key = load_pem_private_key(Path(share.key).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    device, idle = _Device(share), threading.Event()
    with join(plan.address, Path(plan.ca), key, retries=0) as node:
        connected.wait()
        while True:
            if not node.serve_one(device.work):
                idle.wait(_IDLE_S)


def main() -> int:
    """Serve until somebody ends this process."""
    plan = msgspec.json.decode(sys.argv[1].encode(), type=Plan)
    connected = threading.Barrier(len(plan.shares) + 1)
    for share in plan.shares:
        threading.Thread(target=_serve, args=(plan, share, connected), daemon=True).start()
    connected.wait()
    print("ready", flush=True)
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
