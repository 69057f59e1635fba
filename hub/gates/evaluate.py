"""Measuring one version on held-out data, inside the worker process: golden outputs, metrics, latency.

A version that cannot be loaded or run has measured nothing, and the policy fails it for that. Data that does not fit
the version's input is the caller's mistake and is refused instead.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hub.gates import metrics
from hub.gates.dataset import Array, load_dataset
from hub.gates.protocol import BundleFile, Measured, Request, Response
from shared import limits
from shared.bundle.archive import unpack_bundle
from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput, SkerryError
from shared.runtime.model import LoadedModel

__all__ = ["DataMismatch", "evaluate"]

_WARM_UP_COUNT = 5
_TIMED_COUNT = 200


class DataMismatch(InvalidInput):
    """The data set does not fit the version."""


def evaluate(request: Request) -> Response:
    """Measure the candidate, and production on the same data."""
    try:
        x, y = load_dataset(Path(request.dataset))
        candidate = _measure(request.candidate, Path(request.scratch) / "candidate", x, y)
    except InvalidInput as error:
        return Response(refused=error.body())
    production = None
    if request.production is not None:
        try:
            production = _measure(request.production, Path(request.scratch) / "production", x, y)
        except InvalidInput as error:
            production = Measured(problem=error.body())
    return Response(candidate=candidate, production=production)


def _measure(bundle: BundleFile, directory: Path, x: Array, y: Array) -> Measured:
    values: dict[str, float] = {"bundle_bytes": float(bundle.bytes)}
    try:
        manifest = unpack_bundle(
            Path(bundle.path), directory, expected_sha256=bundle.sha256, expected_bytes=bundle.bytes
        )
        model = LoadedModel.load(directory, manifest)
        golden = model.check_golden()
        values["golden_passed"] = float(golden.passed)
        values["golden_max_difference"] = golden.max_difference
    except SkerryError as error:
        return Measured(values=values, problem=error.body())
    check_fit(manifest, x, y)
    try:
        values.update(_score(manifest, _predict(model, x), y))
        values.update(metrics.latency(_time(model, x)))
    except SkerryError as error:
        if error.code.startswith("input."):
            raise DataMismatch("gate.dataset_mismatch", f"The data set does not fit: {error.message}") from error
        return Measured(values=values, problem=error.body())
    finally:
        model.close()
    return Measured(values={name: value for name, value in values.items() if math.isfinite(value)})


def check_fit(manifest: Manifest, x: Array, y: Array) -> None:
    """Return if `x` and `y` can be what this version takes and gives; else `DataMismatch`."""
    wanted = manifest.input
    if str(x.dtype) != wanted.dtype or list(x.shape[1:]) != list(wanted.shape):
        raise _mismatch(f"x is {x.dtype} {list(x.shape)}; the version takes {wanted.dtype} [n, {wanted.shape}]")
    if manifest.task == "regression":
        if y.dtype.kind not in "fiu" or y.size != len(x) * int(np.prod(manifest.output.shape)):
            raise _mismatch(f"y has shape {list(y.shape)}; the version gives [n, {manifest.output.shape}]")
        if not np.isfinite(y.astype(np.float64)).all():
            raise _mismatch("y holds NaN or infinity")
        return
    classes = manifest.output.shape[-1]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise _mismatch("y must be one whole number (the class) a row")
    if int(y.min()) < 0 or int(y.max()) >= classes:
        raise _mismatch(f"y has classes from {y.min()} to {y.max()}; the version knows 0 to {classes - 1}")


def _mismatch(problem: str) -> DataMismatch:
    return DataMismatch(
        "gate.dataset_mismatch",
        f"The data set does not fit: {problem}."[:300],
        hint="x holds raw inputs, before the bundle's preprocessing.",
    )


def _predict(model: LoadedModel, x: Array) -> NDArray[np.floating]:
    step = limits.MAX_INFER_BATCH_COUNT
    return np.concatenate([model.predict(x[start : start + step]) for start in range(0, len(x), step)])


def _score(manifest: Manifest, scores: NDArray[np.floating], y: Array) -> dict[str, float]:
    if manifest.task == "regression":
        return metrics.regression(scores, y.astype(np.float64).reshape(scores.shape))
    return metrics.classification(scores.reshape(len(scores), -1), y.astype(np.int64))


def _time(model: LoadedModel, x: Array) -> list[float]:
    for index in range(min(_WARM_UP_COUNT, len(x))):
        model.predict(x[index : index + 1])
    out = []
    for index in range(min(_TIMED_COUNT, len(x))):
        started = time.perf_counter()
        model.predict(x[index : index + 1])
        out.append(time.perf_counter() - started)
    return out
