"""An own way to train: a class that is installed beside the agent and named in `training.trainer` (`module:Class`).

No code ever comes over the wire: what runs is what was installed on the device by whoever owns it. The class derives
from `Trainer` and may replace either method: what is learnt from, and how. It runs in the training process, nice and
confined, and everything around it stays as it is: the decision, the bounds of the order, the held-out share, the form
of the update, what privacy asks for. docs/examples/own_trainer.py is one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.training.examples import Example
from shared.errors import InvalidInput
from shared.federated.vector import Vector
from shared.preprocess.kernels import Array
from shared.runtime.head import TrainableHead

__all__ = ["Example", "Task", "Trainer", "load_trainer"]


@dataclass(frozen=True, slots=True)
class Task:
    """One order to train.

    head: holds the weights to begin with; `head.step` does one step, `head.weights` gets and sets all as one vector.
    x: embeddings [n, size] float32, y: their classes [n], without the held-out share. seed: for shuffling.
    proceed: call it between epochs; it raises when the device has no more time, power or patience for this.
    """

    head: TrainableHead
    x: Array
    y: NDArray[np.int64]
    epochs: int
    learning_rate: float
    proximal_mu: float
    seed: int
    proceed: Callable[[], None]


class Trainer:
    """The way of training that is used where nothing else is set: steps of gradient descent on the head's own loss."""

    def examples(self, kept: Sequence[Example]) -> Sequence[Example]:
        """What to learn from, given what the device keeps: raw inputs as the model takes them, and their classes."""
        return kept

    def train(self, task: Task) -> Vector:
        """The weights after training, as one vector."""
        head, rng = task.head, np.random.default_rng(task.seed)
        start = head.weights
        for _ in range(task.epochs):
            task.proceed()
            order = rng.permutation(len(task.x))
            for at in range(0, len(order), head.batch):
                rows = order[at : at + head.batch]
                if len(rows) < head.batch and not head.masked:
                    rows = np.resize(rows, head.batch)  # a graph without mask learns some rows of its last batch twice
                self._step(task, start, rows)
        return head.weights

    def _step(self, task: Task, start: Vector, rows: NDArray[np.int64]) -> None:
        """A step, and FedProx's pull towards the weights of the round: mu / 2 * |w - start|^2 in the loss."""
        head, pull = task.head, task.learning_rate * task.proximal_mu
        before = head.weights if pull else start
        head.step(task.x[rows], task.y[rows], task.learning_rate)
        if pull:
            head.weights = head.weights - np.float32(pull) * (before - start)


def load_trainer(name: str) -> Trainer:
    """The trainer that the settings name, the usual one for an empty name; error `training.trainer`."""
    if not name:
        return Trainer()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        trainer = found()
    except Exception as error:
        raise InvalidInput("training.trainer", f"The trainer {name} cannot be made: {error!r}"[:300]) from error
    if not isinstance(trainer, Trainer):
        raise InvalidInput("training.trainer", f"{name} is not a `Trainer`.", hint="Derive it from Trainer.")
    return trainer
