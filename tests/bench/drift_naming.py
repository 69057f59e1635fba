"""Are faults of the data named by their right cause: `python -m tests.bench.drift_naming [--seeds N] [--rows N]`.

Every fault is put into every kind of feature, once for each seed, behind a window of normal traffic; the device counts,
the hub's rules name. Prints JSON: the share that was named rightly by cause and by kind, and the false names in the
control rows, where nothing was wrong. Exit code 1 below 95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from agent.drift.compiled import Compiled
from agent.drift.monitor import Monitor
from hub.monitoring.examine import Counted, examine, reference_cells
from shared.drift.check import read_window
from shared.drift.contract import FeatureContract
from shared.drift.layout import Cause
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array
from shared.wire.window import Window
from tests.drift.kit import ColumnsModel, columns_reference

__all__ = ["KINDS", "measure"]

LIMIT = 0.95
DIGEST = "ab" * 32
_REFERENCE_ROWS = 4000
Random = np.random.Generator

KINDS: Mapping[str, Callable[[Random, int], Array]] = {
    "normal": lambda r, n: r.normal(20, 2, n),
    "centred": lambda r, n: r.normal(0, 1, n),
    "lognormal": lambda r, n: r.lognormal(1, 0.6, n),
    "uniform": lambda r, n: r.uniform(0, 100, n),
    "counts": lambda r, n: r.poisson(40, n).astype(float),
    "rounded": lambda r, n: np.round(r.normal(21, 3, n), 1),
    "walk": lambda r, n: 50 + 5 * np.sin(np.arange(n) / 20) + r.normal(0, 0.5, n),
    "mostly_zero": lambda r, n: np.where(r.random(n) < 0.6, 0.0, r.gamma(2, 3, n)),
    "category": lambda r, n: r.choice(5, n, p=[0.4, 0.3, 0.15, 0.1, 0.05]).astype(float),
}
"""Features as they occur; the last is the only category."""


def _table(random: Random, rows: int) -> Array:
    return np.stack([make(random, rows) for make in KINDS.values()], axis=1).astype(np.float32)


def _faults(random: Random, values: Array) -> dict[str, tuple[Array, str]]:
    """Each fault's values and the cause that must be named."""
    n = len(values)
    some = random.random(n) < 0.1
    held, constant = values.copy(), np.full(n, float(np.median(values)), np.float32)
    held[n // 3 :] = values[n // 3]
    low, high = np.quantile(values, [0.1, 0.9])
    return {
        "missing": (np.where(some, np.nan, values), "missing"),
        "infinite": (np.where(some, np.inf, values), "infinite"),
        "stuck": (held, "stuck"),
        "constant": (constant, "constant"),
        "clipped": (np.clip(values, low, high), "clipped"),
        "unit_1000": (values * 1000, "unit"),
        "unit_fahrenheit": (values * 1.8 + 32, "unit"),
        "unit_thousandth": (values / 1000, "unit"),
    }


_IMPOSSIBLE = {
    ("category", "clipped"),
    ("category", "unit_1000"),
    ("category", "unit_fahrenheit"),
    ("category", "unit_thousandth"),
    ("centred", "unit_fahrenheit"),  # 0 and 1 become 32 and 1.8: nobody can know that from a mean of nothing
    ("mostly_zero", "clipped"),  # its least value is its commonest one anyway
}


class _Case:
    """One reference and its device."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        names = [FeatureContract(name=name, type="category" if name == "category" else "number") for name in KINDS]
        self.reference, self.manifest, _ = columns_reference(_table(self.random, _REFERENCE_ROWS), names)
        self.compiled = Compiled(self.reference, self.manifest)
        self.model = ColumnsModel(len(KINDS))

    def named(self, x: Array, warm: Array | None) -> dict[str, str]:
        """The causes by feature."""
        monitor = Monitor(
            self.manifest, None, self.compiled, DIGEST, monotonic=lambda: 0.0, max_rows_per_s=1e9, feedback_count=0
        )
        if warm is not None:
            self._feed(monitor, warm)
            monitor.take(_empty())
        self._feed(monitor, x)
        window = monitor.take(_empty())
        if window is None:
            return {}
        counts = read_window(window, self.reference, DIGEST)
        counted = Counted(
            rows=window.rows,
            predicted=window.predicted,
            cells=counts.cells,
            findings={(f.feature, Cause(f.cause)): f.rows for f in window.findings},
            duplicates=window.row_causes.get("duplicate", 0),
        )
        cells = reference_cells(self.reference, 0.0, 1.0)
        faults = {fault.feature: fault.cause for fault in examine(counted, self.reference, cells).faults}
        return faults | dict.fromkeys(window.refused.keys() - {"not_finite"}, "refused")

    def _feed(self, monitor: Monitor, x: Array) -> None:
        for row in x:
            one = row[np.newaxis]
            if np.isfinite(one).all():
                monitor.observe(one, self.model.predict(one), self.model.embedding)
            else:
                monitor.refused(one, InvalidInput("input.not_finite", "not finite"))


def _empty() -> Window:
    return Window(
        model="table", version=1, series="0" * 16, window_id=1, started_s=0, ended_s=1, reference_sha256=DIGEST
    )


def _rows_faults(case: _Case, x: Array) -> dict[str, tuple[Array, dict[str, str]]]:
    """Faults that are not one feature's: a new category, and the same rows again."""
    new, again = x.copy(), x.copy()
    new[case.random.random(len(x)) < 0.1, -1] = 9
    again[len(x) // 2 :] = again[len(x) // 2]
    return {"new_category": (new, {"category": "new_category"}), "duplicate": (again, {"": "duplicate"})}


def measure(seeds: int, rows: int) -> dict[str, Any]:
    """All figures."""
    tries: dict[str, list[bool]] = defaultdict(list)
    by_kind: dict[str, list[bool]] = defaultdict(list)
    wrong: dict[str, int] = defaultdict(int)
    control = 0
    for seed in range(seeds):
        case = _Case(seed)
        warm, x = _table(case.random, rows), _table(case.random, rows)
        control += len(case.named(x, warm))
        for name, (data, expected) in _rows_faults(case, x).items():
            found = case.named(data, warm)
            tries[name].append(found == expected)
            wrong[f"{name}: {found}"] += found != expected
        for place, kind in enumerate(KINDS):
            for fault, (values, cause) in _faults(case.random, x[:, place]).items():
                if (kind, fault) in _IMPOSSIBLE:
                    continue
                data = x.copy()
                data[:, place] = values
                found = case.named(data, None if cause == "constant" else warm)
                right = found == {kind: cause}
                tries[fault].append(right)
                by_kind[kind].append(right)
                wrong[f"{kind}, {fault}: {found}"] += not right
    every = [right for part in tries.values() for right in part]
    share = float(np.mean(every))
    return {
        "benchmark": "drift_naming",
        "rows_a_window": rows,
        "seeds": seeds,
        "tried": len(every),
        "named_rightly": round(share, 4),
        "by_fault": {name: round(float(np.mean(part)), 4) for name, part in tries.items()},
        "by_kind_of_feature": {name: round(float(np.mean(part)), 4) for name, part in by_kind.items()},
        "control": {"windows": seeds, "features": seeds * len(KINDS), "false_names": control},
        "wrong": {text: count for text, count in sorted(wrong.items(), key=lambda item: -item[1])[:12] if count},
        "limit": LIMIT,
        "kept": share >= LIMIT,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    figures = measure(options.seeds, options.rows)
    print(json.dumps(figures, indent=2))
    return 0 if figures["kept"] else 1


if __name__ == "__main__":
    sys.exit(main())
