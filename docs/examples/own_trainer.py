"""An own way to train: classes that are rare here count more, and one more source of samples is learnt from.

Install it beside the agent (a package of your own, for example `acme_lens`), and name it in the agent's settings:

    training:
      trainer: acme_lens.own_trainer:BalancedTrainer
      trainer_folder: /var/lib/acme/labelled
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.training.sdk import Example, Task, Trainer
from shared.federated.vector import Vector

FOLDER = Path("/var/lib/acme/labelled")


class BalancedTrainer(Trainer):
    """Draws every class equally often."""

    def examples(self, kept: Sequence[Example]) -> Sequence[Example]:
        """What the device keeps, and files such as `7-0001.npy`: one raw input of the model each, class first."""
        found = [Example(np.load(path), int(path.name.split("-")[0])) for path in sorted(FOLDER.glob("*-*.npy"))]
        return [*kept, *found]

    def train(self, task: Task) -> Vector:
        """As many steps as usual, each on rows of classes drawn at random."""
        rng, head = np.random.default_rng(task.seed), task.head
        rows = {label: np.flatnonzero(task.y == label) for label in np.unique(task.y)}
        for _ in range(task.epochs):
            task.proceed()  # raises when the device is too hot, busy, or out of time
            for _ in range(-(-len(task.x) // head.batch)):
                classes = rng.choice(list(rows), head.batch)
                chosen = np.array([rng.choice(rows[label]) for label in classes])
                head.step(task.x[chosen], task.y[chosen], task.learning_rate)
        return head.weights
