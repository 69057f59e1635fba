"""What counting drift costs a device: `python -m tests.bench.drift_device` prints JSON; exit code 1 over a limit.

Three cases, each in turns so that a slow moment of the machine hits all: the digits model (pictures, embedding, scores)
with and without its monitor; 32 columns, as the counting alone; a photograph of 640 x 480. Figures are microseconds of
the thread's processor time an inference, the counting of full buffers included, so other programs change little.
`--rows 10000000` shows that memory and cost stay the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent.drift.compiled import Compiled
from agent.drift.monitor import Monitor
from agent.inference.host import ModelHost
from shared.drift.build import ReferenceData
from shared.drift.counts import pack_counts
from shared.drift.layout import CELLS
from shared.drift.reference import Image
from shared.wire.up import encode_body
from shared.wire.window import Window
from tests.drift.kit import CONTRACT, ColumnsModel, columns_reference
from tests.models import load_digits, unpacked_digits

__all__ = ["measure"]

LIMITS = {"us_an_inference": 10.0, "counter_bytes_of_32_features": 3073}
_TURNS, _CALLS = 40, 512
_MAX_RATE = 1e9  # no sampling: every row is counted


def _us(call: Callable[[int], object], calls: int) -> float:
    start = time.thread_time_ns()
    for index in range(calls):
        call(index)
    return (time.thread_time_ns() - start) / calls / 1000


def _in_turns(ways: dict[str, Callable[[int], object]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TURNS):
        for name, call in ways.items():
            times[name].append(_us(call, _CALLS))
    return {name: round(statistics.median(found), 2) for name, found in times.items()}


def _digits(folder: Path) -> dict[str, Any]:
    data = load_digits()
    unpacked_digits(folder / "slot", reference=ReferenceData(data.test_x, data.test_y), contract=CONTRACT)
    plain, watched = ModelHost(), ModelHost()
    for host in (plain, watched):
        host.swap("digits", host.load("digits", folder / "slot"))
    handle = watched.current("digits")
    reference = Compiled(*_loaded(handle.directory, handle.manifest))
    digest = "ab" * 32
    handle.monitor = Monitor(
        handle.manifest, handle.labels, reference, digest, monotonic=time.monotonic, max_rows_per_s=_MAX_RATE
    )
    rows = [data.test_x[index : index + 1] for index in range(len(data.test_x))]
    found = _in_turns(
        {
            "inference": lambda i: plain.predict("digits", rows[i % 540]),
            "inference_and_drift": lambda i: watched.predict("digits", rows[i % 540]),
        }
    )
    drift = round(found["inference_and_drift"] - found["inference"], 2)
    features = len(reference.reference.features)
    for host in (plain, watched):
        host.close()
    return {**found, "drift": drift, "ratio": round(drift / found["inference"], 2), "features": features}


def _loaded(directory: Path, manifest: Any) -> tuple[Any, Any]:
    from agent.drift.compiled import load_reference

    found = load_reference(directory, manifest)
    if found is None:
        raise RuntimeError("the bundle has no reference")
    return found[0], manifest


def _columns(rows_count: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    x = random.normal(size=(2000, 32)).astype(np.float32)
    reference, manifest, _ = columns_reference(x)
    monitor = Monitor(
        manifest,
        None,
        Compiled(reference, manifest),
        "ab" * 32,
        monotonic=time.monotonic,
        max_rows_per_s=_MAX_RATE,
    )
    model = ColumnsModel(32)
    answers = [(x[i : i + 1], model.predict(x[i : i + 1]), model.embedding) for i in range(2000)]
    observe = _in_turns({"drift": lambda i: monitor.observe(*answers[i % 2000])})["drift"]
    cells = np.full((32, CELLS), 2**32 - 1)
    window = monitor.take(_empty())
    if window is None:
        raise RuntimeError("nothing was counted")
    figures: dict[str, Any] = {
        "drift": observe,
        "counter_bytes_of_32_features": len(pack_counts(cells)),
        "window_bytes": len(encode_body(window)),
    }
    if rows_count:
        figures["long_run"] = _long(monitor, answers, rows_count)
    return figures


def _empty() -> Window:
    return Window(model="table", version=1, series="0" * 16, window_id=1, started_s=0, ended_s=1)


def _long(monitor: Monitor, answers: Any, rows: int) -> dict[str, Any]:
    """Memory at the beginning and at the end of many rows, and the time of one at both."""

    def some(count: int) -> float:
        return round(_us(lambda i: monitor.observe(*answers[i % 2000]), count), 2)

    first = some(100_000)
    tracemalloc.start()
    some(2000)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    some(rows)
    last = some(100_000)
    tracemalloc.start()
    some(2000)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    counted = monitor.take(_empty())
    return {
        "rows": 0 if counted is None else counted.rows,
        "us_first": first,
        "us_last": last,
        "traced_bytes": [before, after],
    }


def _photograph(folder: Path) -> dict[str, Any]:
    """Only the counting: a model for such pictures takes milliseconds, not this."""
    from shared.bundle.manifest import TensorSpec
    from shared.drift.features import Extractor

    image = Image(height=480, width=640, channels=3)
    extractor = Extractor(image, TensorSpec(name="x", dtype="uint8", shape=[480, 640, 3]))
    x = np.random.default_rng(0).integers(0, 255, (1, 480, 640, 3)).astype(np.uint8)
    room = np.empty((16, *extractor.shape), np.uint8)

    def copy(index: int) -> None:
        room[index % 16] = extractor.kept(x)[0]

    found = _in_turns({"copy": copy})
    counted = [_us(lambda i: extractor.features(room), 8) / 16 for _ in range(10)]
    return {**found, "features_later": round(statistics.median(counted), 2)}


def measure(rows: int = 0) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        digits, photograph = _digits(Path(folder)), _photograph(Path(folder))
    columns = _columns(rows)
    kept = (
        max(digits["drift"], columns["drift"]) < LIMITS["us_an_inference"]
        and columns["counter_bytes_of_32_features"] <= LIMITS["counter_bytes_of_32_features"]
    )
    return {
        "benchmark": "drift_device",
        "digits_us": digits,
        "columns_32_us": columns,
        "photograph_640x480_us": photograph,
        "limits": LIMITS,
        "kept": kept,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0, help="rows of a long run; 10000000 takes about a minute")
    figures = measure(parser.parse_args().rows)
    print(json.dumps(figures, indent=2))
    return 0 if figures["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
