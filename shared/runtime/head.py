"""The trainable part of a bundle: its head, by the signatures that the manifest names, with any number of variables.

`train` takes the head's input [B, …] and some of: `onehot` [B, C] float32 or `y` [B] (the classes), `mask` [B] or
[B, 1] (1 for rows that count), and `step` (learning rate divided by the sum of the mask) or `lr` (the learning rate).
So any head trains whose graph has these names, whatever its layers are. Weights are one vector in the order of
`shared.federated.vector`. Not thread-safe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput
from shared.federated.vector import Vector, flatten, sizes, unflatten
from shared.preprocess.kernels import Array
from shared.runtime.arrays import load_array
from shared.runtime.interpreter import Graph

__all__ = ["TrainableHead", "bundle_weights"]

Labels = NDArray[np.int64]
_LABELS, _RATES = frozenset({"onehot", "y"}), frozenset({"step", "lr"})


def bundle_weights(directory: Path, manifest: Manifest) -> dict[str, Vector]:
    """The head's weights as they are in the bundle; errors `model.not_trainable`, `model.weights`, `array.*`."""
    if manifest.head is None:
        raise InvalidInput("model.not_trainable", f"{manifest.model} {manifest.version} has no head that can learn.")
    weights = {name: load_array(directory / path) for name, path in manifest.head.weights.items()}
    for name, value in weights.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise InvalidInput("model.weights", f"The weights {name} are not finite float32 numbers.")
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


class TrainableHead:
    """A head of its own interpreter. `shapes`: of the variables; `sizes`: their elements in the vector's order."""

    def __init__(self, directory: Path, manifest: Manifest, threads: int = 1) -> None:
        """Errors `model.not_trainable`, `model.load_failed`, `model.signature_missing`, `model.weights`."""
        weights, head = bundle_weights(directory, manifest), manifest.head
        if head is None:
            raise InvalidInput("model.not_trainable", f"{manifest.model} has no head that can learn.")
        graph = Graph(directory / head.path, threads)
        self.classes = math.prod(manifest.output.shape)
        self.shapes: Mapping[str, tuple[int, ...]] = {name: value.shape for name, value in weights.items()}
        self.sizes = sizes(self.shapes)
        self._input, self._output = head.input, head.output
        self._infer = graph.bind(head.infer, {head.input}, {head.output})
        self._train = graph.bind("train")
        self._get = graph.bind("get_weights", set(), set(weights))
        self._set = graph.bind("set_weights", set(weights))
        self._graph = graph
        self.batch = self._check()
        self.weights = flatten(weights)

    def _check(self) -> int:
        """The rows of a training batch."""
        names = set(self._train.shapes)
        rest = names - {self._input, "mask"} - _LABELS - _RATES
        if self._input not in names or rest or len(names & _LABELS) != 1 or len(names & _RATES) != 1:
            raise InvalidInput(
                "model.not_trainable",
                f"train takes {', '.join(sorted(names)) or 'nothing'}.",
                hint=f"It needs {self._input}, onehot or y, step or lr, and may have mask.",
            )
        return self._train.shapes[self._input][0][0]

    @property
    def weights(self) -> Vector:
        """The variables now, as one vector."""
        found = self._get()
        return flatten({name: found[name] for name in self.shapes})

    @weights.setter
    def weights(self, vector: Vector) -> None:
        """Error `update.shape`."""
        self._set(**unflatten(vector, self.shapes))

    def step(self, x: Array, y: Labels, rate: float) -> None:
        """One step of gradient descent on the mean loss of up to `batch` rows: x [n, features], y [n]."""
        count, rows = len(x), self.batch
        values: dict[str, Array] = {}
        for name, (shape, dtype) in self._train.shapes.items():
            if name == self._input:
                value = np.zeros(shape, dtype)
                value.reshape(rows, -1)[:count] = x.reshape(count, -1)
            elif name == "onehot":
                value = np.zeros(shape, dtype)
                value.reshape(rows, -1)[np.arange(count), y] = 1
            elif name == "y":
                value = np.zeros(shape, dtype)
                value.reshape(-1)[:count] = y
            elif name == "mask":
                value = np.zeros(shape, dtype)
                value.reshape(-1)[:count] = 1
            else:
                value = np.full(shape, rate / count if name == "step" else rate, dtype)
            values[name] = value
        self._train(**values)

    @property
    def masked(self) -> bool:
        """Can it learn from fewer rows than a whole batch?"""
        return "mask" in self._train.shapes

    def probabilities(self, x: Array) -> Array:
        """[n, features] to [n, classes] float32."""
        shape, dtype = self._infer.shapes[self._input]
        rows = [self._infer(**{self._input: row.reshape(shape).astype(dtype)})[self._output] for row in x]
        return np.asarray([row.reshape(-1) for row in rows], np.float32).reshape(len(x), -1)

    def close(self) -> None:
        """Free the interpreter; the head must not be used afterwards."""
        del self._infer, self._train, self._get, self._set
        self._graph.close()
