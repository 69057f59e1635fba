"""Small references for the tests: columns without a model, and the digits model with its own."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared import canonical
from shared.bundle.manifest import Manifest
from shared.drift.build import ReferenceData, build_reference
from shared.drift.contract import DataContract, FeatureContract
from shared.drift.reference import Image, Reference, parse_reference
from shared.preprocess import parse_pipeline
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel
from tests.models import load_digits, unpacked_digits

CONTRACT = DataContract(extraction=Image(height=8, width=8, peak=16.0))


class ColumnsModel:
    """A stand-in for a loaded model with named columns: two classes by the sign of the first column."""

    def __init__(self, columns: int, dtype: str = "float32") -> None:
        self.manifest = manifest_of(columns, dtype)
        self.pipeline = parse_pipeline([], self.manifest.input)
        self.embedding = np.zeros((0, 2), np.float32)

    def predict(self, x: Array) -> Array:
        p = 1 / (1 + np.exp(-np.clip(x.reshape(len(x), -1)[:, :1].astype(np.float32), -50, 50)))
        self.embedding = np.concatenate([p, 1 - p], axis=1)
        return self.embedding


def manifest_of(columns: int, dtype: str = "float32") -> Manifest:
    """A manifest without files worth the name."""
    plain: dict[str, Any] = {
        "model": "table",
        "version": 1,
        "input": {"name": "x", "dtype": dtype, "shape": [columns]},
        "output": {"name": "probs", "dtype": "float32", "shape": [2]},
        "extractor": {"path": "model.tflite"},
        "golden": {"inputs": "golden/inputs.npy", "outputs": "golden/outputs.npy"},
        "files": [{"path": "model.tflite", "bytes": 0, "sha256": "ab" * 32, "role": "model"}],
    }
    return canonical.loads_as(canonical.dumps(plain), Manifest, limit=10_000)


def columns_reference(
    x: Array, features: Sequence[FeatureContract] = (), **more: Any
) -> tuple[Reference, Manifest, bytes]:
    """The reference of a table, its manifest, and its bytes."""
    model = ColumnsModel(x.shape[1], str(x.dtype))
    data = ReferenceData(x, **more)
    written, _ = build_reference(model, data, DataContract(features=list(features)))  # type: ignore[arg-type]
    return parse_reference(written), model.manifest, written


@functools.cache
def digits_reference() -> tuple[bytes, bytes]:
    """Reference and calibration of the digits model, version 1, from the held-out digits."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "slot"
        model = LoadedModel.load(directory, unpacked_digits(directory))
        data = load_digits()
        reference, calibration = build_reference(model, ReferenceData(data.test_x, data.test_y), CONTRACT)
        model.close()
    assert calibration is not None
    return reference, calibration
