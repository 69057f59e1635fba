"""Float `.tflite` to int8 weights and activations with ai-edge-quantizer; the edges stay float32 unless asked."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hub.modelkit.edges import float_edges
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["quantise_int8"]


def quantise_int8(
    model: bytes, calibration: Array, *, signature: str = "infer", input: str = "x", int8_edges: bool = False
) -> bytes:
    """The int8 model; `calibration` is [n, …] float32 as the model takes it, of which 200 rows are used."""
    from ai_edge_quantizer import quantizer, recipe

    if not len(calibration):
        raise InvalidInput("model.calibration", "Calibration needs at least one sample.")
    rows = np.ascontiguousarray(calibration[:200], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.tflite"
        path.write_bytes(model)
        samples = [{input: rows[i : i + 1]} for i in range(len(rows))]
        with _quiet():
            worker = quantizer.Quantizer(str(path))
            worker.load_quantization_recipe(recipe.static_wi8_ai8())
            quantised = bytes(worker.quantize(worker.calibrate({signature: samples})).quantized_model)
    return quantised if int8_edges else float_edges(quantised)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer prints a report, a progress bar and a debugging hint; a command's output is not the place."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore", UserWarning)
        yield
