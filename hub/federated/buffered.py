"""Asynchronous training with a buffer (FedBuff, Nguyen et al. 2022). Pure: state and one update in, state out.

Devices train at their own pace; each admitted update is weighted by 1/sqrt(1 + staleness), and every `goal` of them
make one step of the model. What is staler than `max_staleness` steps is refused.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

__all__ = ["Buffer", "add", "staleness_weight"]

Vector = NDArray[np.float32]


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """model: the weights at `step`. total, weight: sums of what has come since, from `updates` devices."""

    model: Vector
    step: int
    total: NDArray[np.float64]
    weight: float = 0.0
    updates: int = 0

    @classmethod
    def begin(cls, model: Vector, step: int = 0) -> Buffer:
        """An empty buffer at `model`."""
        return cls(model=model, step=step, total=np.zeros(model.shape, np.float64))


def staleness_weight(staleness: int) -> float:
    """The weight of an update that was trained on a model `staleness` steps old."""
    return 1.0 / math.sqrt(1.0 + staleness)


def add(
    buffer: Buffer,
    difference: Vector,
    examples: int,
    trained_at_step: int,
    goal: int,
    learning_rate: float = 1.0,
    max_staleness: int = 20,
) -> Buffer:
    """The buffer with one more update, and with its step made when that is the `goal`-th.

    Errors: `update.stale`, `update.unasked` (trained on a step that has not been), `update.shape`.
    """
    staleness = buffer.step - trained_at_step
    if staleness < 0:
        raise InvalidInput("update.unasked", "The update says that it was trained on a model that does not exist yet.")
    if staleness > max_staleness:
        raise InvalidInput("update.stale", f"The update is {staleness} steps old; at most {max_staleness} may be.")
    if difference.shape != buffer.model.shape:
        raise InvalidInput("update.shape", "The update does not fit the weights of the model.")
    weight = staleness_weight(staleness) * examples
    total = buffer.total + weight * difference
    if buffer.updates + 1 < goal:
        return msgspec.structs.replace(buffer, total=total, weight=buffer.weight + weight, updates=buffer.updates + 1)
    model = buffer.model + learning_rate * total / (buffer.weight + weight)
    return Buffer.begin(model.astype(np.float32), buffer.step + 1)
