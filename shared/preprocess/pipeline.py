"""A compiled preprocessing pipeline: raw input in, the model's input out.

Consecutive affine operations (cast to float32, scale, normalise, and the affine part of quantise) become one multiply
and one add. Parsing works out the type and shape after each operation and refuses a list that cannot run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from shared import canonical, limits
from shared.bundle.manifest import TensorSpec
from shared.errors import InvalidInput, TooLarge
from shared.preprocess import kernels
from shared.preprocess.kernels import Array, Kernel
from shared.preprocess.operations import (
    Cast,
    Clip,
    Normalise,
    OneHot,
    Operation,
    Quantise,
    Resize,
    Scale,
    Window,
    parse_operation,
)

__all__ = ["Pipeline", "parse_pipeline"]


class Pipeline:
    """What `parse_pipeline` makes. `output_dtype` and `output_shape` (one sample) describe what `apply` returns."""

    __slots__ = ("_steps", "apply", "digest", "output_dtype", "output_shape")

    def __init__(self, steps: tuple[Kernel, ...], dtype: str, shape: tuple[int, ...], digest: str) -> None:
        self._steps = steps
        self.apply: Kernel = steps[0] if len(steps) == 1 else self._apply
        """[batch, *input.shape] to [batch, *output_shape]; the input array is never changed. Error `input.category`."""
        self.output_dtype = dtype
        self.output_shape = shape
        self.digest = digest

    def _apply(self, x: Array) -> Array:
        for step in self._steps:
            x = step(x)
        return x


def parse_pipeline(operations: list[dict[str, Any]], input: TensorSpec) -> Pipeline:
    """Compile a manifest's list for its raw `input`.

    Errors name the operation: `preprocess.operation` (a field), `preprocess.shape`, `preprocess.dtype`,
    `preprocess.too_large`.
    """
    most = limits.MAX_PREPROCESS_OPS_COUNT + 1  # the runtime appends the conversion to the model's type
    if len(operations) > most:
        raise TooLarge("preprocess.too_large", f"At most {most - 1} operations are accepted.")
    parsed = [parse_operation(raw, index) for index, raw in enumerate(operations)]
    compiler = _Compiler(input.dtype, tuple(input.shape))
    for index, operation in enumerate(parsed):
        compiler.add(operation, index)
    described = {"input": {"dtype": input.dtype, "shape": input.shape}, "operations": parsed}
    digest = hashlib.sha256(canonical.dumps(described)).hexdigest()
    return Pipeline(compiler.finish(), compiler.dtype, compiler.shape, digest)


class _Compiler:
    """Walks the operations with the current type and shape, collecting kernels and one pending affine."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._steps: list[Kernel] = []
        self._pending: tuple[Array, Array] | None = None
        self._index = 0
        self._bound("input")

    def add(self, operation: Operation, index: int) -> None:
        """Check and compile one operation."""
        self._index = index
        adders: dict[type[Any], Callable[[Any], None]] = {
            Cast: self._cast,
            Scale: self._scale,
            Normalise: self._normalise,
            Resize: self._resize,
            Clip: self._clip,
            Window: self._window,
            OneHot: self._one_hot,
            Quantise: self._quantise,
        }
        adders[type(operation)](operation)
        self._bound(f"preprocessing[{index}]")

    def finish(self) -> tuple[Kernel, ...]:
        """All kernels in order."""
        self._flush()
        return tuple(self._steps)

    def _refuse(self, kind: str, what: str) -> InvalidInput:
        return InvalidInput(f"preprocess.{kind}", f"preprocessing[{self._index}]{what}")

    def _bound(self, what: str) -> None:
        if math.prod(self.shape) > limits.MAX_TENSOR_ELEMENTS_COUNT:
            raise TooLarge(
                "preprocess.too_large", f"{what}: more than {limits.MAX_TENSOR_ELEMENTS_COUNT} elements in a sample."
            )

    def _flush(self) -> None:
        if self._pending is not None:
            self._steps.append(kernels.affine(*self._pending))
            self._pending = None

    def _step(self, kernel: Kernel, dtype: str, shape: tuple[int, ...] | None = None) -> None:
        self._flush()
        self._steps.append(kernel)
        self.dtype = dtype
        self.shape = self.shape if shape is None else shape

    def _affine(self, factor: Array, offset: Array) -> None:
        a, b = (np.ones(()), np.zeros(())) if self._pending is None else self._pending
        self._pending = a * factor, b * factor + offset
        if max(float(np.abs(part).max()) for part in self._pending) > float(np.finfo(np.float32).max):
            raise self._refuse("operation", ": together with the operations before it, its factors leave float32.")
        self.dtype = "float32"

    def _channels(self, field: str, value: float | list[float]) -> Array:
        if isinstance(value, list) and len(value) not in (1, self.shape[-1]):
            raise self._refuse(
                "shape", f".{field}: {len(value)} numbers for a last dimension of {self.shape[-1]}; give one or all."
            )
        numbers = np.asarray(value, np.float64)
        return numbers.reshape(()) if numbers.size == 1 else numbers

    def _cast(self, operation: Cast) -> None:
        if operation.dtype == "float32":
            self._affine(np.ones(()), np.zeros(()))
        elif operation.dtype != self.dtype:
            self._step(kernels.cast(operation.dtype), operation.dtype)

    def _scale(self, operation: Scale) -> None:
        self._affine(np.asarray(operation.factor, np.float64), np.asarray(operation.offset, np.float64))

    def _normalise(self, operation: Normalise) -> None:
        mean, std = self._channels("mean", operation.mean), self._channels("std", operation.std)
        self._affine(1.0 / std, -mean / std)

    def _resize(self, operation: Resize) -> None:
        if len(self.shape) not in (2, 3):
            raise self._refuse("shape", f": resize needs H x W or H x W x C, not {list(self.shape)}.")
        sizes = self.shape[0], self.shape[1], operation.height, operation.width
        bilinear = operation.method == "bilinear"
        kernel = kernels.bilinear(*sizes) if bilinear else kernels.nearest(*sizes)
        shape = (operation.height, operation.width, *self.shape[2:])
        self._step(kernel, "float32" if bilinear else self.dtype, shape)

    def _clip(self, operation: Clip) -> None:
        if operation.min >= operation.max:
            raise self._refuse("operation", ".min: must be below max.")
        self._step(kernels.clip(operation.min, operation.max), "float32")

    def _window(self, operation: Window) -> None:
        if len(self.shape) not in (1, 2):
            raise self._refuse("shape", f": window needs N or N x C, not {list(self.shape)}.")
        if operation.length > self.shape[0]:
            raise self._refuse("shape", f".length: {operation.length} is longer than the input's {self.shape[0]}.")
        frames = (self.shape[0] - operation.length) // operation.step + 1
        shape = (frames, operation.length, *self.shape[1:])
        if math.prod(shape) > limits.MAX_TENSOR_ELEMENTS_COUNT:  # before the table of indices is made
            raise TooLarge("preprocess.too_large", f"preprocessing[{self._index}]: the frames are too many elements.")
        self._step(kernels.window(self.shape[0], operation.length, operation.step), self.dtype, shape)

    def _one_hot(self, operation: OneHot) -> None:
        if self.dtype in ("float32", "bool"):
            raise self._refuse("dtype", f": one_hot needs integers, not {self.dtype}; cast first.")
        kernel = kernels.one_hot(operation.depth, operation.unknown == "refuse")
        self._step(kernel, "float32", (*self.shape, operation.depth))

    def _quantise(self, operation: Quantise) -> None:
        info = np.iinfo(operation.dtype)
        if not info.min <= operation.zero_point <= info.max:
            raise self._refuse("operation", f".zero_point: {operation.zero_point} is outside {operation.dtype}.")
        self._affine(np.asarray(1.0 / operation.scale), np.asarray(float(operation.zero_point)))
        factor, offset = self._pending if self._pending is not None else (np.ones(()), np.zeros(()))
        self._pending = None
        self._step(kernels.quantise(factor, offset, operation.dtype), operation.dtype)
