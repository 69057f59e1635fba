"""The adapter around the TFLite interpreter; the only importer of the runtime.

`Graph` is one loaded `.tflite`; `Call` is one of its signatures with one input and one output, for rows of a fixed
shape; `Bound` is one with any inputs and outputs, for training. A signature in the primary subgraph is run by tensor
index, which costs about 2 microseconds less than the signature runner; others go through the runner. No class here is
thread-safe: one caller at a time.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared import limits
from shared.errors import InternalError, InvalidInput, SkerryError
from shared.preprocess.kernels import Array, Kernel, affine

try:
    import ai_edge_litert as _package
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME_NAME = "ai-edge-litert"
except ImportError:  # armv7l has no such wheel
    import tflite_runtime as _package
    from tflite_runtime.interpreter import Interpreter

    RUNTIME_NAME = "tflite-runtime"

RUNTIME_VERSION: str = str(_package.__version__)

__all__ = ["RUNTIME_NAME", "RUNTIME_VERSION", "Bound", "Call", "Graph", "Interpreter", "schema"]

_RUNTIME_ERRORS = (ValueError, RuntimeError, TypeError, UnicodeDecodeError, MemoryError, KeyError, IndexError, OSError)


def schema() -> Any:
    """The flatbuffer schema module (heavy: about 40 MB and 0.2 s; for build and inspection, never in the agent)."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


def _wrap(error: BaseException, what: str) -> SkerryError:
    text = " ".join(str(error).split())[:200]
    if any(mark in text for mark in ("Didn't find op", "Select TensorFlow op", "unresolved custom op", "Unsupported")):
        return InvalidInput(
            "model.unsupported_op",
            f"{what} uses an operation that {RUNTIME_NAME} {RUNTIME_VERSION} does not have: {text}",
            hint="Export the model with built-in TFLite operations only.",
        )
    return InvalidInput("model.load_failed", f"{what} cannot be loaded: {text or type(error).__name__}")


def _details(ask: Callable[[], dict[str, Any]], what: str) -> dict[str, Any]:
    """What the runtime says of a signature's tensors; a damaged file may name some that it does not have."""
    try:
        return ask()
    except _RUNTIME_ERRORS as error:
        raise _wrap(error, what) from error


class Graph:
    """A loaded `.tflite` file. Errors: `model.load_failed`, `model.unsupported_op`, `model.signature_missing`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.name = path.name
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            self.signatures: dict[str, dict[str, list[str]]] = self._interpreter.get_signature_list() or {}
        except _RUNTIME_ERRORS as error:
            raise _wrap(error, self.name) from error

    def _runner(self, signature: str, inputs: set[str], outputs: set[str]) -> Any:
        found = self.signatures.get(signature)
        if found is None or set(found["inputs"]) != inputs or not outputs <= set(found["outputs"]):
            raise InvalidInput(
                "model.signature_missing",
                f"{self.name} has no signature {signature}({', '.join(sorted(inputs))}) "
                f"-> {', '.join(sorted(outputs)) or 'anything'}.",
                hint=f"Its signatures are: {', '.join(sorted(self.signatures)) or 'none'}.",
            )
        try:
            return self._interpreter.get_signature_runner(signature)
        except _RUNTIME_ERRORS as error:
            raise _wrap(error, self.name) from error

    def call(self, signature: str, input: str, output: str) -> Call:
        """A signature with one input and one output as a `Call`."""
        return Call(self._interpreter, self._runner(signature, {input}, {output}), self.name, input, output)

    def bind(self, signature: str, inputs: set[str] | None = None, outputs: set[str] | None = None) -> Bound:
        """A signature that is called many times, with its inputs (None: whatever it has). Keep no `Call` beside it."""
        known = self.signatures.get(signature, {"inputs": []})["inputs"]
        runner = self._runner(signature, set(known) if inputs is None else inputs, outputs or set())
        return Bound(runner, f"{self.name}: {signature}")

    def run(self, signature: str, values: Mapping[str, Array], outputs: set[str] | None = None) -> dict[str, Array]:
        """Run any signature once through the runner; for weights and for training. Error also `model.run_failed`."""
        runner = self._runner(signature, set(values), outputs or set())
        for name, tensor in _details(runner.get_input_details, self.name).items():  # the runtime would resize the graph
            if tuple(tensor["shape"]) != values[name].shape or tensor["dtype"] != values[name].dtype:
                raise InvalidInput(
                    "model.input_mismatch",
                    f"{self.name}: {name} of {signature} is {np.dtype(tensor['dtype'])} {list(tensor['shape'])}, "
                    f"not {values[name].dtype} {list(values[name].shape)}.",
                )
        try:
            result: dict[str, Array] = runner(**values)
        except _RUNTIME_ERRORS as error:
            raise InternalError("model.run_failed", f"{self.name}: {signature} failed: {error}"[:300]) from error
        return result

    def exercise(self) -> list[str]:
        """Run every signature once with zeros of its own shapes; returns their names. Errors as `run`."""
        for signature, fields in self.signatures.items():
            runner = self._runner(signature, set(fields["inputs"]), set(fields["outputs"]))
            details = _details(runner.get_input_details, self.name)
            if sum(math.prod(int(n) for n in d["shape"]) for d in details.values()) > limits.MAX_TENSOR_ELEMENTS_COUNT:
                raise InvalidInput("model.load_failed", f"{self.name}: the inputs of {signature} are too large.")
            self.run(signature, {name: np.zeros(d["shape"], d["dtype"]) for name, d in details.items()})
        return sorted(self.signatures)

    def close(self) -> None:
        """Free the interpreter's memory; nothing of this graph may be used afterwards."""
        self._interpreter = None


class Bound:
    """One signature with any inputs and outputs, called by name. shapes: of the inputs, with their types."""

    def __init__(self, runner: Any, name: str) -> None:
        details = _details(runner.get_input_details, name)
        self.shapes = {key: (tuple(int(n) for n in d["shape"]), np.dtype(d["dtype"])) for key, d in details.items()}
        self.outputs = set(_details(runner.get_output_details, name))
        self._runner, self._name = runner, name

    def __call__(self, **values: Array) -> dict[str, Array]:
        """The outputs by name. Errors `model.input_mismatch`, `model.run_failed`."""
        for key, (shape, dtype) in self.shapes.items():  # the runtime would resize the graph
            if key not in values or values[key].shape != shape or values[key].dtype != dtype:
                raise InvalidInput("model.input_mismatch", f"{self._name}: {key} must be {dtype} {list(shape)}.")
        try:
            result: dict[str, Array] = self._runner(**values)
        except _RUNTIME_ERRORS as error:
            raise InternalError("model.run_failed", f"{self._name} failed: {error}"[:300]) from error
        return result


class Call:
    """One signature with one input and one output, called with rows.

    Rows go in with exactly `input_dtype`; `input_quantization` is (scale, zero point), scale 0 meaning none. Quantised
    outputs come back as float32. `one` is `run` for a single row.
    """

    def __init__(self, interpreter: Any, runner: Any, name: str, input: str, output: str) -> None:
        source = _details(runner.get_input_details, name)[input]
        result = _details(runner.get_output_details, name)[output]
        self.name, self._input, self._output = name, input, output
        self._source, self._result = int(source["index"]), int(result["index"])
        # A live runner makes the interpreter refuse a plain invoke, so only one of the two ways is kept.
        self._runner = None if getattr(runner, "_subgraph_index", -1) == 0 else runner
        self._set, self._invoke, self._get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        self._shape = tuple(int(n) for n in source["shape"])
        if not self._shape or self._shape[0] != 1 or min(self._shape) < 1:
            raise InvalidInput(
                "model.batch",
                f"{name}: the input {input} has shape {list(self._shape)}; a batch of 1 is needed.",
                hint="Export the signature with batch size 1.",
            )
        self.input_size = math.prod(self._shape)
        self.input_dtype = np.dtype(source["dtype"])
        self.input_quantization = float(source["quantization"][0]), int(source["quantization"][1])
        self.output_shape = tuple(int(n) for n in result["shape"])
        self.output_size = math.prod(self.output_shape)
        self._dequantise = _dequantiser(np.dtype(result["dtype"]), result["quantization"])
        self.one = self._compile()

    def _compile(self) -> Kernel:
        """The call for one row as a closure: at a microsecond an invocation, attribute look-ups would show."""
        name, shape, row, source, result = self.name, self._shape, (1, self.output_size), self._source, self._result
        set_tensor, invoke, get_tensor, dequantise = self._set, self._invoke, self._get, self._dequantise
        runner, input, output = self._runner, self._input, self._output
        flat = self.output_shape == row

        def one(x: Array) -> Array:
            try:
                if runner is None:
                    set_tensor(source, x.reshape(shape))
                    invoke()
                    out: Array = get_tensor(result)
                else:
                    out = runner(**{input: x.reshape(shape)})[output]
            except _RUNTIME_ERRORS as error:
                raise InternalError("model.run_failed", f"{name} failed: {error}"[:300]) from error
            if not flat:
                out = out.reshape(row)
            return out if dequantise is None else dequantise(out)

        return one

    def run(self, rows: Array) -> Array:
        """[batch, …] with `input_size` elements a row to [batch, output_size] float32. Error `model.run_failed`."""
        return np.concatenate([self.one(row) for row in rows])


def _dequantiser(dtype: np.dtype[Any], quantization: tuple[float, int]) -> Kernel | None:
    scale, zero = float(quantization[0]), float(quantization[1])
    if dtype == np.float32:
        return None
    if dtype.kind not in "iu" or scale == 0.0:
        return lambda rows: rows.astype(np.float32)
    if dtype.itemsize > 1:
        return affine(np.asarray(scale), np.asarray(-zero * scale))
    values = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)  # in the order of the raw byte
    table = ((values - zero) * scale).astype(np.float32)
    take, byte = table.take, np.dtype(np.uint8)
    return lambda rows: take(rows.view(byte))
