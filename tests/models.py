"""Small real models for the tests: scikit-learn's digits, an int8 extractor and a softmax head, as bundles.

Training takes about a tenth of a second and is kept for the process. Each seed gives other weights, so that a test
can tell two versions apart by what they predict. `digits_bundle(..., broken=True)` has golden outputs that no device
can reproduce.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from shared.bundle.archive import unpack_bundle
from shared.bundle.build import BuiltBundle, build_bundle
from shared.bundle.manifest import Lineage, Manifest, TensorSpec

__all__ = ["Digits", "DigitsModel", "digits_bundle", "digits_model", "load_digits", "unpacked_digits"]

Floats = npt.NDArray[np.float32]

INPUT = TensorSpec(name="image", dtype="float32", shape=[8, 8])
OUTPUT = TensorSpec(name="probs", dtype="float32", shape=[10])
PREPROCESSING: list[dict[str, Any]] = [{"op": "scale", "factor": 1 / 16}]


@dataclass(frozen=True)
class Digits:
    """Raw images [n, 8, 8] with values 0 to 16, and classes [n]; the last 540 are held out of training."""

    train_x: Floats
    train_y: npt.NDArray[np.int64]
    test_x: Floats
    test_y: npt.NDArray[np.int64]


@dataclass(frozen=True)
class DigitsModel:
    """The parts of a bundle."""

    extractor: bytes
    head: bytes
    weights: Mapping[str, Floats]


@functools.cache
def load_digits() -> Digits:
    """The real data, split at random but always the same."""
    from sklearn.datasets import load_digits as load

    data = load()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = data.images[order].astype(np.float32), data.target[order].astype(np.int64)
    return Digits(x[:-540], y[:-540], x[-540:], y[-540:])


@functools.cache
def digits_model(seed: int = 1) -> DigitsModel:
    """A trained and quantised model (accuracy about 0.95); another seed gives other weights."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    rows = data.train_x.reshape(-1, 64) / 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        trained = MLPClassifier((128, 64), max_iter=15, random_state=seed).fit(rows, data.train_y)
    layers = list(zip(trained.coefs_[:-1], trained.intercepts_[:-1], strict=True))
    extractor = quantise_int8(dense_relu(layers), rows)
    weights = {"w": trained.coefs_[-1].T.astype(np.float32), "b": trained.intercepts_[-1].astype(np.float32)}
    return DigitsModel(extractor, softmax_head(64, 10), weights)


def digits_bundle(
    path: Path, version: int = 1, model: str = "digits", *, seed: int | None = None, broken: bool = False, **more: Any
) -> BuiltBundle:
    """Write a bundle file; the seed is the version unless given. `more` goes to `build_bundle`."""
    parts, data = digits_model(version if seed is None else seed), load_digits()
    arguments: dict[str, Any] = {
        "extractor": parts.extractor,
        "head": parts.head,
        "weights": parts.weights,
        "input": INPUT,
        "output": OUTPUT,
        "preprocessing": PREPROCESSING,
        "labels": [str(digit) for digit in range(10)],
        "golden_inputs": data.train_x[:8],
        "card": f"# Digits\n\nVersion {version}, for tests.\n",
        "lineage": Lineage(data_name="scikit-learn digits", code_revision="test"),
    }
    if broken:
        arguments["golden_outputs"] = np.eye(10, dtype=np.float32)[(data.train_y[:8] + 1) % 10]
    return build_bundle(path, model=model, version=version, **(arguments | more))


def unpacked_digits(directory: Path, version: int = 1, model: str = "digits", **more: Any) -> Manifest:
    """A bundle unpacked into the new folder `directory`; its manifest."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    path = directory.parent / f".{directory.name}.bundle"
    built = digits_bundle(path, version, model, **more)
    return unpack_bundle(path, directory, expected_sha256=built.sha256, expected_bytes=built.bytes)
