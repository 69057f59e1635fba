"""Devices of a federation in one process: `python -m tests.federated.devices PLAN`, a thread for each.

Each has its share of the samples and trains a small network with NumPy, through the agent's own node. It says `ready`
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

from agent.training.flower_node import join
from agent.training.orders import Answer, Order, parse_training
from agent.training.protection import Protection
from agent.training.secure import SecureSession
from tests.federated.network import accuracy, initial, sizes, train

__all__ = ["Plan", "Share"]

_IDLE_S = 0.05


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One device: its key, its samples (an .npz with x and y), and whether it is honest.

    behaviour `fails` fails in every task, `fails-KIND` in those of a kind.
    """

    device_id: str
    key: str
    certificate: str
    samples: str
    behaviour: str = "honest"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, who, and the layers of the network."""

    dims: tuple[int, ...]
    address: str
    ca: str
    shares: list[Share]


class _Device:
    def __init__(self, share: Share, dims: tuple[int, ...], key: ec.EllipticCurvePrivateKey) -> None:
        self._share = share
        self._protection = Protection(SecureSession(share.device_id, key, Path(share.certificate).read_bytes()))
        self._dims = dims
        with np.load(share.samples) as data:
            self._x, self._y = data["x"], data["y"]

    def work(self, order: Order) -> Answer:
        behaviour = self._share.behaviour
        if behaviour in ("fails", f"fails-{order.kind}"):
            raise RuntimeError("the sensor is wet")
        if order.kind == "evaluate":
            return self._measured(order)
        if order.kind == "query":
            return self._protection.answer(order)
        wanted = parse_training(order.config)
        self._protection.check(order, wanted)
        moved = train(order.weights, self._dims, self._x, self._y, wanted.epochs, wanted.learning_rate, wanted.round)
        examples = 10**9 if behaviour == "lies" else len(self._x)
        measured = {"held_out_accuracy": accuracy(order.weights, self._dims, self._x, self._y)}
        answer, _ = self._protection.write(moved - order.weights, examples, measured, wanted, sizes(self._dims))
        if behaviour == "nan":
            update = b"\x01" + np.full(order.weights.size, np.nan, "<f4").tobytes()
            return msgspec.structs.replace(answer, update=update)
        return answer

    def _measured(self, order: Order) -> Answer:
        """Shares of right answers with the new weights and with those at the beginning; losses of another kind."""
        new, base = (
            accuracy(weights, self._dims, self._x, self._y) for weights in (order.weights, initial(self._dims, 0))
        )
        measured = {"held_out_accuracy": new, "held_out_loss": 1 - new, "base_accuracy": base, "base_loss": 1 - base}
        if self._share.behaviour == "nan":
            measured["held_out_accuracy"] = float("nan")
        return Answer(update=b"", examples=len(self._x), metrics=measured)


def _serve(plan: Plan, share: Share, connected: threading.Barrier) -> None:
    key = load_pem_private_key(Path(share.key).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    device, idle = _Device(share, plan.dims, key), threading.Event()
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
