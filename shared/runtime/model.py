"""A bundle's model, loaded from an unpacked folder: validation, preprocessing, int8 extractor, float head.

Not thread-safe: one caller at a time (the agent's host and the hub's gate see to it).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shared import canonical, durable, limits
from shared.bundle.manifest import Head, Manifest
from shared.errors import InternalError, InvalidInput, SkerryError, TooLarge
from shared.preprocess import Pipeline, parse_pipeline
from shared.preprocess.kernels import Array
from shared.runtime.arrays import load_array
from shared.runtime.interpreter import Call, Graph

__all__ = ["GoldenResult", "LoadedModel"]

_LARGE = 1e24  # a sum of squares below this proves, in one fast pass, that all are finite and far from overflow


class GoldenResult(msgspec.Struct, frozen=True, kw_only=True):
    """How the golden inputs came out: greatest absolute difference, and microseconds a row."""

    passed: bool
    max_difference: float
    tolerance: float
    rows: int
    latency_p50_us: int
    latency_p99_us: int


class LoadedModel:
    """Use `LoadedModel.load`. `manifest`, `labels` (or None) and `pipeline` are for reading.

    `embedding`: what the extractor gave at the last prediction, [batch, size] float32; without a head, the output.
    """

    def __init__(
        self, directory: Path, manifest: Manifest, pipeline: Pipeline, graphs: list[Graph], calls: list[Call]
    ) -> None:
        self.manifest = manifest
        self.pipeline = pipeline
        self._prepare = _conversion(manifest, pipeline, calls[0]).apply
        self.embedding: Array = np.zeros((0, calls[0].output_size), np.float32)
        self._first, *self._others = [call.one for call in calls]
        self.labels = _labels(directory, manifest)
        self._directory = directory
        self._graphs = graphs
        self._calls = calls
        self._dtype = np.dtype(manifest.input.dtype)
        self._shape = tuple(manifest.input.shape)
        self._output = tuple(manifest.output.shape)
        self._floats = self._dtype.kind == "f"

    @classmethod
    def load(cls, directory: Path, manifest: Manifest, threads: int = 1) -> LoadedModel:
        """Load what is unpacked in `directory`.

        Errors: `model.load_failed`, `model.unsupported_op`, `model.signature_missing`, `model.batch`,
        `model.input_mismatch`, `model.output_mismatch`, `model.weights`, `preprocess.*`, `array.malformed`.
        """
        pipeline = parse_pipeline(manifest.preprocessing, manifest.input)
        extractor = Graph(directory / manifest.extractor.path, threads)
        graphs, calls = [extractor], []
        calls.append(extractor.call(manifest.extractor.signature, manifest.extractor.input, manifest.extractor.output))
        if manifest.head is not None:
            head = Graph(directory / manifest.head.path, threads)
            _set_weights(head, manifest.head, directory)
            graphs.append(head)
            calls.append(head.call(manifest.head.infer, manifest.head.input, manifest.head.output))
        _check_sizes(manifest, pipeline, calls)
        return cls(directory, manifest, pipeline, graphs, calls)

    def predict(self, x: Array) -> Array:
        """[batch, *input.shape] of the manifest's type to [batch, *output.shape] float32.

        Errors: `input.dtype`, `input.shape`, `input.too_many`, `input.not_finite`, `input.category`,
        `model.run_failed`, `model.output_not_finite`.
        """
        if x.dtype != self._dtype or x.shape[1:] != self._shape or not 0 < len(x) <= limits.MAX_INFER_BATCH_COUNT:
            raise self._refusal(x)
        large = self._floats and not np.vdot(x, x) < _LARGE
        y = self._prepare_large(x) if large else self._prepare(x)
        if len(x) == 1:
            self.embedding = y = self._first(y)
            for one in self._others:
                y = one(y)
        else:
            self.embedding = y = self._calls[0].run(y)
            for call in self._calls[1:]:
                y = call.run(y)
        if not np.vdot(y, y) < _LARGE and not np.isfinite(y).all():
            raise InternalError("model.output_not_finite", "The model's output holds NaN or infinity.")
        return y.reshape(len(x), *self._output)

    def _refusal(self, x: Array) -> InvalidInput:
        if x.dtype != self._dtype:
            return InvalidInput(
                "input.dtype", f"The input is {x.dtype}, but the model takes {self._dtype}.", hint="Convert it first."
            )
        if x.shape[1:] != self._shape or not len(x):
            wanted = ", ".join(str(n) for n in self._shape)
            return InvalidInput(
                "input.shape", f"The input has shape {list(x.shape)}, but the model takes [n, {wanted}]."
            )
        return TooLarge(
            "input.too_many",
            f"{len(x)} samples at once; at most {limits.MAX_INFER_BATCH_COUNT} are accepted.",
            hint="Send several smaller batches.",
        )

    def _prepare_large(self, x: Array) -> Array:
        """Preprocessing of numbers that are not finite (refused) or so large that they may overflow (checked later)."""
        if not np.isfinite(x).all():
            raise InvalidInput("input.not_finite", "The input holds NaN or infinity.")
        with np.errstate(over="ignore", invalid="ignore"):
            return self._prepare(x)

    def golden(self) -> tuple[Array, Array]:
        """The bundle's golden inputs and outputs; errors `golden.malformed`, `array.malformed`."""
        inputs = load_array(self._directory / self.manifest.golden.inputs)
        outputs = load_array(self._directory / self.manifest.golden.outputs)
        if not 1 <= len(inputs) <= limits.MAX_GOLDEN_COUNT or outputs.shape != (len(inputs), *self._output):
            raise InvalidInput("golden.malformed", "The golden inputs and outputs do not belong together.")
        return inputs, outputs

    def check_golden(self) -> GoldenResult:
        """Predict the golden inputs one by one and compare; errors as `golden` and `predict`."""
        inputs, expected = self.golden()
        self.predict(inputs[:1])  # the first call of a runtime is slow; it is not what devices will see
        times, worst = [], 0.0
        for index in range(len(inputs)):
            start = time.perf_counter_ns()
            found = self.predict(inputs[index : index + 1])
            times.append((time.perf_counter_ns() - start) // 1000)
            difference = np.abs(found[0].astype(np.float64) - expected[index]).max()
            worst = max(worst, float(difference)) if math.isfinite(difference) else math.inf
        times.sort()
        return GoldenResult(
            passed=worst <= self.manifest.golden.tolerance,
            max_difference=min(worst, 1e30),  # JSON has no infinity
            tolerance=self.manifest.golden.tolerance,
            rows=len(inputs),
            latency_p50_us=times[len(times) // 2],
            latency_p99_us=times[min(len(times) - 1, len(times) * 99 // 100)],
        )

    def exercise(self) -> list[str]:
        """Run every signature of every file once with zeros, then set the head's weights again; names run."""
        names = [f"{graph.name}:{name}" for graph in self._graphs for name in graph.exercise()]
        if self.manifest.head is not None:
            _set_weights(self._graphs[-1], self.manifest.head, self._directory)
        return names

    def use_head(self, weights: Mapping[str, Array] | None) -> None:
        """Predict with these weights of the head from now on; None: with the bundle's own.

        Errors `model.not_trainable`, `model.input_mismatch`, `model.weights`: the bundle's own serve.
        """
        described = self.manifest.head
        if described is None:
            raise InvalidInput("model.not_trainable", f"{self.manifest.model} has no head that can be exchanged.")
        own = _own_weights(described, self._directory)
        try:
            _put_weights(self._graphs[-1], own if weights is None else weights)
        except SkerryError:
            _put_weights(self._graphs[-1], own)
            raise

    def close(self) -> None:
        """Free the runtime's memory. The model must not be used afterwards."""
        for graph in self._graphs:
            graph.close()
        self._first, self._others, self._calls, self._graphs = _closed, [], [], []


def _closed(x: Array) -> Array:
    raise InternalError("model.closed", "The model was closed and cannot be used any more.")


def _conversion(manifest: Manifest, pipeline: Pipeline, first: Call) -> Pipeline:
    """The manifest's pipeline and, fused into it, the conversion to the exact type that the extractor takes."""
    dtype, (scale, zero_point) = first.input_dtype.name, first.input_quantization
    if pipeline.output_dtype == dtype:
        return pipeline
    last: dict[str, Any] = {"op": "cast", "dtype": dtype}
    if scale != 0.0:
        last = {"op": "quantise", "dtype": dtype, "scale": scale, "zero_point": zero_point}
    return parse_pipeline([*manifest.preprocessing, last], manifest.input)


def _labels(directory: Path, manifest: Manifest) -> list[str] | None:
    if manifest.labels is None:
        return None
    data = durable.read_file(directory / manifest.labels, limit=limits.MAX_BUNDLE_ENTRY_BYTES)
    labels = canonical.loads_as(data, list[str], limit=limits.MAX_BUNDLE_ENTRY_BYTES, what="list of labels")
    if len(labels) > limits.MAX_LABELS_COUNT or len(labels) != math.prod(manifest.output.shape):
        raise InvalidInput("model.labels", f"{len(labels)} labels for outputs of shape {manifest.output.shape}.")
    return labels


def _set_weights(head: Graph, described: Head, directory: Path) -> None:
    _put_weights(head, _own_weights(described, directory))


def _own_weights(described: Head, directory: Path) -> dict[str, Array]:
    return {name: load_array(directory / path) for name, path in described.weights.items()}


def _put_weights(head: Graph, weights: Mapping[str, Array]) -> None:
    for name, value in weights.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise InvalidInput("model.weights", f"The weights {name} are not finite float32 numbers.")
    head.run("set_weights", weights)
    kept = head.run("get_weights", {}, set(weights))
    if not all(np.array_equal(kept[name], value) for name, value in weights.items()):
        raise InvalidInput("model.weights", f"{head.name} does not keep the weights that are set.")


def _check_sizes(manifest: Manifest, pipeline: Pipeline, calls: list[Call]) -> None:
    size, source = math.prod(pipeline.output_shape), f"preprocessing gives {list(pipeline.output_shape)}"
    for call in calls[1:]:
        if call.input_dtype != np.float32:
            raise InvalidInput("model.input_mismatch", f"{call.name} takes {call.input_dtype}; a head takes float32.")
    for call in calls:
        if call.input_size != size:
            raise InvalidInput("model.input_mismatch", f"{call.name} takes {call.input_size} numbers, but {source}.")
        size, source = call.output_size, f"{call.name} gives {list(call.output_shape)}"
    if size != math.prod(manifest.output.shape):
        raise InvalidInput("model.output_mismatch", f"The manifest's output is {manifest.output.shape}, but {source}.")
