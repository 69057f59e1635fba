"""The trained part of a model as one flat vector, in which form it goes through a federated run. Pure.

The order is that of the variables' names, sorted; each variable is laid out in C order. Both sides know names and
shapes from the same signed bundle, so a vector carries neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput

__all__ = ["Vector", "flatten", "sizes", "unflatten"]

Vector = NDArray[np.float32]
Shapes = Mapping[str, Sequence[int]]


def sizes(shapes: Shapes) -> tuple[int, ...]:
    """The number of elements of each variable, in the vector's order."""
    return tuple(math.prod(shapes[name]) for name in sorted(shapes))


def flatten(weights: Mapping[str, NDArray[np.generic]]) -> Vector:
    """The variables [any shape] as one float32 vector [sum of sizes]; error `update.not_finite`."""
    parts = [np.asarray(weights[name], np.float32).ravel() for name in sorted(weights)]
    vector = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not np.isfinite(vector).all():
        raise InvalidInput("update.not_finite", "The model holds a weight that is not a finite number.")
    return vector


def unflatten(vector: Vector, shapes: Shapes) -> dict[str, Vector]:
    """The variables by name, as copies; error `update.shape` when the vector does not have exactly their length."""
    lengths = sizes(shapes)
    if vector.shape != (sum(lengths),):
        raise InvalidInput("update.shape", f"There are {vector.size} weights; the model has {sum(lengths)}.")
    parts = np.split(np.asarray(vector, np.float32), np.cumsum(lengths)[:-1])
    names = sorted(shapes)
    return {name: part.reshape(tuple(shapes[name])).copy() for name, part in zip(names, parts, strict=True)}
