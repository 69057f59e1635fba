"""Does monitoring find what it should and nothing else: `python -m tests.bench.drift [--seed N] [--quick]`.

Prints a table and JSON: false alarms of a month without drift, power beside Kolmogorov and Smirnov, counters of a
softmax, the two levels of a fleet, detectors on errors beside those of river and frouros, a weak rise pooled,
performance estimated without labels, faults named by their cause, and merging. Every part has a
control row and a trivial detector. Exit code 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from tests.bench import drift_naming
from tests.bench.drift_estimate import real, synthetic
from tests.bench.drift_frouros import frouros_detectors
from tests.bench.drift_merging import merging
from tests.bench.drift_power import control, levels, power
from tests.bench.drift_softmax import softmax
from tests.bench.drift_streams import pooled, streams

__all__ = ["measure"]


def measure(seed: int, *, quick: bool) -> dict[str, Any]:
    """All figures."""
    few = 5 if quick else 1
    peers, frouros = frouros_detectors()
    naming = drift_naming.measure(max(10 // few // 2, 1), 300)
    return {
        "benchmark": "drift",
        "seed": seed,
        "cores": os.cpu_count(),
        "frouros": frouros,
        "control": [control(seed, 400 // few)],
        "power": power(seed, 200 // few),
        "softmax": softmax(seed, 100 // few),
        "levels": levels(seed, 100 // few),
        "streams": streams(10 // few, peers),
        "pooled": pooled(50 // few),
        "estimated": [synthetic(seed, 20 // few), real(seed)],
        "naming": [{name: naming[name] for name in ("tried", "named_rightly", "control", "limit", "kept")}],
        "merging": merging(seed, 100_000 // few),
    }


def broken(figures: dict[str, Any]) -> list[str]:
    """The promises that were not kept."""
    rows = [(part, row) for part, found in figures.items() if isinstance(found, list) for row in found]
    return [f"{part}: {row}" for part, row in rows if row.get("kept") is False]


def _table(figures: dict[str, Any]) -> str:
    lines = []
    for part, rows in figures.items():
        if isinstance(rows, list):
            lines.append(part)
            lines += ["    " + "  ".join(f"{key}={value}" for key, value in row.items()) for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a fifth of the work")
    options = parser.parse_args()
    figures = measure(options.seed, quick=options.quick)
    print(_table(figures), file=sys.stderr)
    print(json.dumps(figures, indent=2))
    for text in broken(figures):
        print(f"not kept: {text}", file=sys.stderr)
    return 1 if broken(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
