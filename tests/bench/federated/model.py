"""The model of the benchmark as a bundle, and what its weights are worth."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hub.modelkit import dense_relu, mlp_head, mlp_weights, passthrough, quantise_int8, softmax_head
from shared.bundle.archive import unpack_bundle
from shared.bundle.build import build_bundle
from shared.bundle.manifest import Manifest, TensorSpec
from shared.federated.vector import flatten, unflatten
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel
from tests.bench.federated.data import Data

__all__ = ["accuracy", "central_head", "first_weights", "network_bundle", "released_accuracy", "shapes_of"]

Vector = NDArray[np.float32]
BATCH = 32


def network_bundle(folder: Path, dims: Sequence[int], data: Data, seed: int) -> Manifest:
    """A version that is one trainable network, unpacked in `folder / "bundle"`."""
    file = folder / "network.bundle"
    built = build_bundle(
        file,
        model="bench",
        version=1,
        extractor=passthrough(dims[0]),
        head=mlp_head(dims, BATCH),
        weights=mlp_weights(dims, seed),
        input=TensorSpec(name="x", dtype="uint8", shape=[dims[0]]),
        output=TensorSpec(name="probs", dtype="float32", shape=[dims[-1]]),
        preprocessing=[{"op": "cast", "dtype": "float32"}, {"op": "scale", "factor": 1 / data.peak}],
        golden_inputs=data.held_x[:4],
        train_batch=BATCH,
    )
    return unpack_bundle(file, folder / "bundle", expected_sha256=built.sha256, expected_bytes=built.bytes)


def shapes_of(dims: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of the network's variables."""
    return {name: value.shape for name, value in mlp_weights(dims).items()}


def first_weights(dims: Sequence[int], seed: int) -> Vector:
    """With what the network begins."""
    return flatten(mlp_weights(dims, seed))


def accuracy(weights: Vector, dims: Sequence[int], data: Data) -> float:
    """Of the float32 network on the held-out data, in NumPy."""
    parts, value = unflatten(weights, shapes_of(dims)), data.held_x.astype(np.float32) / data.peak
    for layer in range(1, len(dims)):
        value = value @ parts[f"w{layer}"].T + parts[f"b{layer}"]
        value = np.maximum(value, 0) if layer < len(dims) - 1 else value
    return float((value.argmax(axis=1) == data.held_y).mean())


def released_accuracy(weights: Vector, dims: Sequence[int], data: Data) -> float:
    """Of a bundle as it would be released: hidden layers quantised to int8, float head, run by the TFLite runtime."""
    parts = unflatten(weights, shapes_of(dims))
    last = len(dims) - 1
    hidden = [(parts[f"w{n}"].T, parts[f"b{n}"]) for n in range(1, last)]
    rows = (data.x[:200] / data.peak).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "released.bundle"
        built = build_bundle(
            file,
            model="bench",
            version=2,
            extractor=quantise_int8(dense_relu(hidden), rows),
            head=softmax_head(dims[-2], dims[-1]),
            weights={"w": parts[f"w{last}"], "b": parts[f"b{last}"]},
            input=TensorSpec(name="x", dtype="uint8", shape=[dims[0]]),
            output=TensorSpec(name="probs", dtype="float32", shape=[dims[-1]]),
            preprocessing=[{"op": "cast", "dtype": "float32"}, {"op": "scale", "factor": 1 / data.peak}],
            golden_inputs=data.held_x[:4],
        )
        into = Path(folder) / "released"
        manifest = unpack_bundle(file, into, expected_sha256=built.sha256, expected_bytes=built.bytes)
        model = LoadedModel.load(into, manifest)
        found = np.array([model.predict(data.held_x[i : i + 1])[0].argmax() for i in range(len(data.held_x))])
        model.close()
    return float((found == data.held_y).mean())


def central_head(dims: Sequence[int], data: Data, epochs: int) -> dict[str, Vector]:
    """The network trained in one place on all data, by the TFLite runtime as on a device: batches of 32, rate 0.1."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = network_bundle(Path(folder), dims, data, 0)
        head = TrainableHead(Path(folder) / "bundle", manifest)
        x, rng = (data.x / data.peak).astype(np.float32), np.random.default_rng(0)
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for at in range(0, len(order), head.batch):
                rows = order[at : at + head.batch]
                head.step(x[rows], data.y[rows], 0.1)
        found = unflatten(head.weights, head.shapes)
        head.close()
    return found
