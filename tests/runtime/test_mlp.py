"""The trainable network in the real runtime: its gradient is that of NumPy, its variables come out as they went in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hub.modelkit import mlp_head, mlp_weights, passthrough
from shared.bundle.archive import unpack_bundle
from shared.bundle.build import build_bundle
from shared.bundle.manifest import Manifest, TensorSpec
from shared.errors import InvalidInput
from shared.federated.vector import flatten, unflatten
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel
from tests.federated.network import accuracy, initial, train
from tests.models import load_digits

Vector = NDArray[np.float32]


def _bundle(folder: Path, dims: Sequence[int], batch: int = 32) -> Manifest:
    """A version that is nothing but the network."""
    golden = np.random.default_rng(1).random((4, dims[0]), np.float32)
    built = build_bundle(
        folder / "b.bundle",
        model="net",
        version=1,
        extractor=passthrough(dims[0]),
        head=mlp_head(dims, batch),
        weights=mlp_weights(dims, 3),
        input=TensorSpec(name="x", dtype="float32", shape=[dims[0]]),
        output=TensorSpec(name="probs", dtype="float32", shape=[dims[-1]]),
        golden_inputs=golden,
        train_batch=batch,
    )
    return unpack_bundle(folder / "b.bundle", folder / "b", expected_sha256=built.sha256, expected_bytes=built.bytes)


def _as_numpy(vector: Vector, dims: Sequence[int], head: TrainableHead) -> Vector:
    """The head's vector in the order of `tests.federated.network`: layer by layer, weights [in, out] then bias."""
    parts = unflatten(vector, head.shapes)
    layers = range(1, len(dims))
    return np.concatenate([part for n in layers for part in (parts[f"w{n}"].T.ravel(), parts[f"b{n}"])])


@pytest.mark.parametrize("dims", [(6, 4), (6, 5, 4), (6, 7, 5, 4), (64, 32, 10)])
def test_training_gives_what_numpy_gives(tmp_path: Path, dims: tuple[int, ...]) -> None:
    head = TrainableHead(tmp_path / "b", _bundle(tmp_path, dims, 32))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, dims[0])).astype(np.float32)
    y = rng.integers(0, dims[-1], 100)
    start = _as_numpy(head.weights, dims, head)
    order_rng = np.random.default_rng(9)
    for _ in range(5):
        order = order_rng.permutation(100)
        for at in range(0, 100, 32):
            rows = order[at : at + 32]
            head.step(x[rows], y[rows], 0.1)
    expected = train(start, dims, x, y, 5, 0.1, 9)
    found = _as_numpy(head.weights, dims, head)
    assert np.abs(expected - start).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=2e-5)
    head.close()


def test_it_learns_digits_as_well_as_numpy(tmp_path: Path) -> None:
    data, dims = load_digits(), (64, 32, 10)
    x, y = (data.train_x.reshape(-1, 64) / 16).astype(np.float32), data.train_y
    held = (data.test_x.reshape(-1, 64) / 16).astype(np.float32)
    head = TrainableHead(tmp_path / "b", _bundle(tmp_path, dims))
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(x))
        for at in range(0, len(x), head.batch):
            head.step(x[order[at : at + head.batch]], y[order[at : at + head.batch]], 0.1)
    found = float((head.probabilities(held).argmax(axis=1) == data.test_y).mean())
    expected = accuracy(train(initial(dims, 0), dims, x, y, 20, 0.1, 0), dims, held, data.test_y)
    assert found > 0.93
    assert abs(found - expected) < 0.02
    head.close()


def test_variables_come_out_as_they_went_in_and_decide_what_the_bundle_predicts(tmp_path: Path) -> None:
    manifest = _bundle(tmp_path, (6, 7, 5, 4))
    weights = mlp_weights((6, 7, 5, 4), 3)
    head = TrainableHead(tmp_path / "b", manifest)
    assert sorted(head.shapes) == ["b1", "b2", "b3", "w1", "w2", "w3"]
    assert np.array_equal(head.weights, flatten(weights))
    other = np.random.default_rng(5).normal(size=head.weights.shape).astype(np.float32)
    head.weights = other
    assert np.array_equal(head.weights, other)
    model = LoadedModel.load(tmp_path / "b", manifest)
    x = np.random.default_rng(1).random((4, 6), np.float32)
    assert np.array_equal(model.predict(x).argmax(axis=1), head_of(weights, x))
    assert model.check_golden().passed
    assert "head.tflite:train" in model.exercise()
    model.close()
    head.close()


def head_of(weights: dict[str, Vector], x: Vector) -> NDArray[np.int64]:
    """The classes that NumPy gives."""
    for layer in range(1, len(weights) // 2 + 1):
        x = x @ weights[f"w{layer}"].T + weights[f"b{layer}"]
        x = np.maximum(x, 0) if f"w{layer + 1}" in weights else x
    return np.asarray(x.argmax(axis=1), np.int64)


def test_rows_beyond_the_mask_change_nothing(tmp_path: Path) -> None:
    head = TrainableHead(tmp_path / "b", _bundle(tmp_path, (6, 5, 4), 8))
    x, y = np.ones((3, 6), np.float32), np.array([0, 1, 2])
    start = head.weights
    head.step(x, y, 0.1)
    whole = head.weights
    head.weights = start
    values = {name: np.zeros(shape, dtype) for name, (shape, dtype) in head._train.shapes.items()}
    values["x"][:] = 7.0
    values["x"][:3] = x
    values["onehot"][:, 3] = 1
    values["onehot"][:3] = np.eye(4, dtype=np.float32)[y]
    values["mask"][:3] = 1
    values["step"] = np.asarray(0.1 / 3, np.float32)
    head._train(**values)
    np.testing.assert_allclose(head.weights, whole, atol=1e-7)
    head.close()


@pytest.mark.parametrize("dims", [(6,), (6, 0, 3), tuple(range(1, 11))])
def test_layers_that_cannot_be_are_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        mlp_head(dims)
    assert caught.value.code == "model.layers"
