"""In-process prediction against the bare interpreter, digits int8 model, one sample a call, in one run.

`python -m tests.bench.inference_inprocess` prints JSON. The two are measured in turns of 500 calls, so that a slow
moment of the machine hits both; the ratio is that of the medians.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

from agent.inference.host import ModelHost
from shared.bundle.archive import read_manifest
from shared.runtime.interpreter import RUNTIME_NAME, RUNTIME_VERSION
from shared.runtime.model import LoadedModel
from tests.bench.inference_figures import percentiles_us, raw_calls, time_each_ns
from tests.models import load_digits, unpacked_digits

__all__ = ["measure"]


def measure(directory: Path, turns: int = 40, calls: int = 500) -> dict[str, object]:
    """The figures, in microseconds."""
    unpacked_digits(directory)
    manifest, x = read_manifest(directory), load_digits().test_x[:1]
    host = ModelHost()
    host.swap("digits", host.load("digits", directory))
    model = LoadedModel.load(directory, manifest)
    ways = {
        "raw": raw_calls(directory, manifest, x),
        "model": lambda: model.predict(x),
        "host": lambda: host.predict("digits", x),
    }
    times: dict[str, list[int]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, call in ways.items():
            times[name] += time_each_ns(call, calls)
    medians = {name: statistics.median(found) for name, found in times.items()}
    host.close()
    return {
        "benchmark": "inference_inprocess",
        "runtime": f"{RUNTIME_NAME} {RUNTIME_VERSION}",
        "model": "digits int8 64-128-64 + head 64-10",
        "us": {name: percentiles_us(found) for name, found in times.items()},
        "ratio_to_raw": {name: round(medians[name] / medians["raw"], 2) for name in ("model", "host")},
        "limit_ratio": 3.0,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder) / "slot"), indent=2))
