"""Training that lasts, for measurements beside it: the usual steps, again and again for some seconds."""

from __future__ import annotations

import time
from dataclasses import replace

from agent.training.sdk import Task, Trainer
from shared.federated.vector import Vector

SECONDS = 4.0


class LongTrainer(Trainer):
    """One epoch after the other until `SECONDS` are over."""

    def train(self, task: Task) -> Vector:
        until = time.monotonic() + SECONDS
        weights = task.head.weights
        while time.monotonic() < until:
            weights = super().train(replace(task, epochs=1))
        return weights
