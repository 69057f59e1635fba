"""Train, quantise and bundle the demo's models: a dense extractor in int8 and a trainable float head, no TensorFlow.

Three versions: the first saw little data, the second all of it, the third is broken on purpose: the golden outputs in
its bundle are not what its model computes, as when weights and tests of different trainings are packed together.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.modelkit import dense_relu, quantise_int8, softmax_head
from scripts.demo_app.data import DataSet
from shared import canonical
from shared.bundle.build import build_bundle
from shared.bundle.manifest import TensorSpec

__all__ = ["Parts", "gate_policy", "train", "write_broken_bundle", "write_held_out", "write_parts"]

_GOLDEN = 16
_REFERENCE = 2000  # of the images that were not trained on


@dataclass(frozen=True, slots=True)
class Parts:
    """The files that `skerry versions register` takes."""

    extractor: bytes
    head: bytes
    weights: dict[str, NDArray[np.float32]]


def train(data: DataSet, *, share: float, seed: int, log: Path) -> Parts:
    """Train on the first `share` of the training images, then quantise the extractor; native chatter goes to `log`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    small = data.name == "digits"
    hidden, epochs = ((128, 64), 40) if small else ((128, 64), 4)
    count = int(len(data.train_x) * share)
    x = (data.train_x[:count] / data.peak).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPClassifier(hidden, max_iter=epochs, batch_size=min(128, count), random_state=seed)
        network.fit(x, data.train_y[:count])
    layers = list(zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True))
    weights = {
        "w": np.ascontiguousarray(network.coefs_[-1].T, np.float32),
        "b": np.ascontiguousarray(network.intercepts_[-1], np.float32),
    }
    with _native_output_to(log):
        extractor = quantise_int8(dense_relu(layers), x[:200])
    return Parts(extractor, softmax_head(hidden[-1], len(data.labels)), weights)


@contextmanager
def _native_output_to(log: Path) -> Iterator[None]:
    """The runtime's native code writes to descriptor 2 itself, past `sys.stderr`."""
    kept = os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def write_parts(parts: Parts, data: DataSet, folder: Path, *, version: int) -> list[str]:
    """Write the files of one version to `folder`; returns the options for `skerry versions register`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "extractor.tflite").write_bytes(parts.extractor)
    (folder / "head.tflite").write_bytes(parts.head)
    np.savez(folder / "weights.npz", **parts.weights)  # type: ignore[arg-type]
    (folder / "preprocessing.json").write_bytes(canonical.dumps(_preprocessing(data)))
    (folder / "labels.txt").write_text("\n".join(data.labels) + "\n")
    np.save(folder / "golden.npy", data.test_x[:_GOLDEN])
    (folder / "card.md").write_text(_card(data, version))
    np.savez_compressed(folder / "reference.npz", x=data.test_x[-_REFERENCE:], y=data.test_y[-_REFERENCE:])
    (folder / "contract.yaml").write_bytes(canonical.dumps(_contract(data)))
    return [
        *("--extractor", str(folder / "extractor.tflite")),
        *("--head", str(folder / "head.tflite")),
        *("--weights", str(folder / "weights.npz")),
        *("--preprocessing", str(folder / "preprocessing.json")),
        *("--labels", str(folder / "labels.txt")),
        *("--golden", str(folder / "golden.npy")),
        *("--card", str(folder / "card.md")),
        *("--reference", str(folder / "reference.npz")),
        *("--contract", str(folder / "contract.yaml")),
        *("--input", f"x:uint8:{data.test_x.shape[1]}"),
        *("--lineage-data-name", data.title),
    ]


def write_broken_bundle(parts: Parts, data: DataSet, path: Path, *, version: int) -> None:
    """A whole bundle with the golden outputs of another model: right by the gate's metrics, wrong on devices."""
    wrong = np.eye(len(data.labels), dtype=np.float32)[(data.test_y[:_GOLDEN] + 1) % len(data.labels)]
    build_bundle(
        path,
        model=data.name,
        version=version,
        extractor=parts.extractor,
        head=parts.head,
        weights=parts.weights,
        input=TensorSpec(name="x", dtype="uint8", shape=[data.test_x.shape[1]]),
        output=TensorSpec(name="probs", dtype="float32", shape=[len(data.labels)]),
        preprocessing=_preprocessing(data),
        labels=data.labels,
        golden_inputs=data.test_x[:_GOLDEN],
        golden_outputs=wrong,
        card=_card(data, version),
    )


def write_held_out(data: DataSet, path: Path) -> None:
    """The held-out images and labels as the gate reads them: an .npz with `x` and `y`."""
    np.savez_compressed(path, x=data.test_x[:2000], y=data.test_y[:2000])


def gate_policy(data: DataSet) -> dict[str, Any]:
    """What a version must reach before anyone may sign it."""
    return {"checks": [{"metric": "accuracy", "op": ">=", "value": 0.8 if data.name == "digits" else 0.75}]}


def _preprocessing(data: DataSet) -> list[dict[str, Any]]:
    return [{"op": "cast", "dtype": "float32"}, {"op": "scale", "factor": 1 / data.peak}]


def _contract(data: DataSet) -> dict[str, Any]:
    """The rows are square pictures."""
    side = math.isqrt(data.test_x.shape[1])
    return {"kind": "image", "height": side, "width": side, "peak": data.peak}


def _card(data: DataSet, version: int) -> str:
    return (
        f"# {data.name} {version}\n\n{data.title}. Dense network, int8 extractor, float head.\n"
        "Intended use: the demo. Not for anything that matters.\n"
    )
