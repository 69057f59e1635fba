"""What the inference benchmarks share: percentiles, and the raw interpreter calls that figures are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shared.bundle.manifest import Manifest
from shared.preprocess import parse_pipeline
from shared.preprocess.kernels import Array
from shared.runtime.interpreter import Interpreter

__all__ = ["percentiles_us", "raw_calls", "time_each_ns"]


def percentiles_us(times_ns: Sequence[int]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the greatest, in microseconds."""
    ordered = sorted(times_ns)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000, 2)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)}


def time_each_ns(call: Callable[[], object], runs: int) -> list[int]:
    """The time of each of `runs` calls."""
    clock, out = time.perf_counter_ns, []
    for _ in range(runs):
        start = clock()
        call()
        out.append(clock() - start)
    return out


def raw_calls(directory: Path, manifest: Manifest, x: Array) -> Callable[[], Array]:
    """Set, invoke and get on bare interpreters of the bundle's two files, with input that is ready made: no lower bound
    for Python can be had. The head's weights stay zero, which costs the same."""
    extractor = Interpreter(model_path=str(directory / manifest.extractor.path), num_threads=1)
    head = Interpreter(model_path=str(directory / "head.tflite"), num_threads=1)
    for interpreter in (extractor, head):
        interpreter.allocate_tensors()
    (source,), (result,) = extractor.get_input_details(), extractor.get_output_details()
    (head_source,), (head_result,) = head.get_input_details(), head.get_output_details()
    ready = parse_pipeline(manifest.preprocessing, manifest.input).apply(x).reshape(source["shape"])
    first, middle, probs = int(source["index"]), int(result["index"]), int(head_result["index"])
    embedding = np.zeros(head_source["shape"], np.float32)
    second = int(head_source["index"])

    def run() -> Array:
        extractor.set_tensor(first, ready)
        extractor.invoke()
        extractor.get_tensor(middle)
        head.set_tensor(second, embedding)
        head.invoke()
        out: Array = head.get_tensor(probs)
        return out

    return run
