"""A small network in NumPy, as one flat vector: dense layers with ReLU between them, softmax at the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["accuracy", "initial", "sizes", "train"]

Vector = NDArray[np.float32]
Labels = NDArray[np.int64]
Layers = list[tuple[Vector, Vector]]
_BATCH = 32


def sizes(dims: Sequence[int]) -> tuple[int, ...]:
    """Elements of each tensor: weights and biases in turn."""
    return tuple(n for a, b in pairwise(dims) for n in (a * b, b))


def initial(dims: Sequence[int], seed: int) -> Vector:
    """He's initialisation; zeros for a single layer, which has nothing to break the symmetry of."""
    if len(dims) == 2:
        return np.zeros(sum(sizes(dims)), np.float32)
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros(b)) for a, b in pairwise(dims)]
    return _flat([(w.astype(np.float32), v.astype(np.float32)) for w, v in parts])


def accuracy(flat: Vector, dims: Sequence[int], x: Vector, y: Labels) -> float:
    """The share of `x` that the network names rightly."""
    return float((_forward(_layers(flat, dims), x)[-1].argmax(axis=1) == y).mean())


def train(flat: Vector, dims: Sequence[int], x: Vector, y: Labels, epochs: int, rate: float, seed: int) -> Vector:
    """The weights after so many epochs of plain gradient steps in batches of 32."""
    rng, layers = np.random.default_rng(seed), _layers(flat.copy(), dims)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), _BATCH):
            rows = order[start : start + _BATCH]
            _step(layers, x[rows], y[rows], np.float32(rate))
    return _flat(layers)


def _layers(flat: Vector, dims: Sequence[int]) -> Layers:
    parts = np.split(flat, np.cumsum(sizes(dims))[:-1])
    return [(parts[2 * i].reshape(a, b), parts[2 * i + 1]) for i, (a, b) in enumerate(pairwise(dims))]


def _flat(layers: Layers) -> Vector:
    return np.concatenate([part.ravel() for layer in layers for part in layer]).astype(np.float32)


def _forward(layers: Layers, x: Vector) -> list[Vector]:
    values = [x]
    for number, (weights, bias) in enumerate(layers):
        out = values[-1] @ weights + bias
        values.append(out if number == len(layers) - 1 else np.maximum(out, np.float32(0)))
    return values


def _step(layers: Layers, x: Vector, y: Labels, rate: np.float32) -> None:
    values = _forward(layers, x)
    scores = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    slope = scores / scores.sum(axis=1, keepdims=True)
    slope[np.arange(len(y)), y] -= 1
    slope = (slope / np.float32(len(y))).astype(np.float32)
    for number in range(len(layers) - 1, -1, -1):
        weights, bias = layers[number]
        gradient, shift = values[number].T @ slope, slope.sum(axis=0)
        if number:
            slope = np.asarray((slope @ weights.T) * (values[number] > 0), np.float32)
        weights -= rate * gradient
        bias -= rate * shift
