"""One device of the benchmark: the agent's own training, on samples that it was given, honest or not."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.training.examples import Embedder
from agent.training.orders import Answer, Order
from agent.training.residual import Residual
from agent.training.samples import Sample
from agent.training.sdk import Trainer
from agent.training.work import Work
from shared.bundle.archive import read_manifest
from shared.federated.codec import Scheme, decode, encode
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel

__all__ = ["BEHAVIOURS", "Device"]

BEHAVIOURS = ("honest", "flip", "nan", "huge", "shape", "labels", "drops")
"""flip: minus four times the update. nan, huge: of such numbers. shape: another length. labels: 9 - y is learnt.
drops: an error instead of an answer."""
_SPACE = "0" * 16


class Device:
    """Answers orders. The runtime is used by one device at a time, as there are many of them in one process."""

    lock = threading.Lock()

    def __init__(
        self, name: str, bundle: Path, samples: Path, folder: Path, behaviour: str = "honest", log: Path | None = None
    ) -> None:
        manifest = read_manifest(bundle)
        with np.load(samples) as found:
            x, y = found["x"], found["y"]
        if behaviour == "labels":
            y = y.max() - y
        self._kept = [_sample(row, label) for row, label in zip(x, y, strict=True)]
        self._head = TrainableHead(bundle, manifest)
        residual = Residual(folder, "f-000000000001", sum(self._head.sizes), None)
        embedder = Embedder(LoadedModel.load(bundle, manifest), self._head.classes)
        self._name = name
        self._behaviour = behaviour
        self._log = log
        self._work = Work(
            "f-000000000001",
            self._head,
            embedder,
            Trainer(),
            lambda: ("0", self._kept),
            residual,
            proceed=lambda: None,
        )

    def work(self, order: Order) -> Answer:
        """The answer; what it took is written down."""
        if self._behaviour == "drops":
            raise RuntimeError("the battery is empty")
        with self.lock:
            begun = time.perf_counter()
            answer = self._work(order)
            if order.kind == "train":
                self._work.delivered()
                answer = self._bent(answer)
            self._tell(order, time.perf_counter() - begun)
        return answer

    def _bent(self, answer: Answer) -> Answer:
        sizes = self._head.sizes
        match self._behaviour:
            case "flip":
                update = encode((-4 * decode(answer.update, sizes)).astype(np.float32), sizes, Scheme.INT8)[0]
            case "nan":
                update = b"\x01" + np.full(sum(sizes), np.nan, "<f4").tobytes()
            case "huge":
                update = b"\x01" + np.full(sum(sizes), 1e6, "<f4").tobytes()
            case "shape":
                update = encode(np.ones(7, np.float32), (7,), Scheme.INT8)[0]
            case _:
                return answer
        return msgspec.structs.replace(answer, update=update)

    def _tell(self, order: Order, seconds: float) -> None:
        if self._log is not None:
            line = {"device": self._name, "round": order.config["round"], "seconds": seconds}
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _sample(row: NDArray[np.uint8], label: np.int64) -> Sample:
    return Sample(
        model="bench", version=1, space=_SPACE, label=int(label), dtype=str(row.dtype), shape=[*row.shape],
        data=row.tobytes(),
    )  # fmt: skip
