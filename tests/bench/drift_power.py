"""Part of `tests.bench.drift`: false alarms without drift, power with it, and the two levels of a fleet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hub.monitoring.discovery import discoveries
from hub.monitoring.divergence import compare
from hub.monitoring.examine import Thresholds

__all__ = ["control", "levels", "power"]

Floats = NDArray[np.float64]
BINS = 20
_REFERENCE_ROWS = 50_000
_ALPHA = 0.05


class _Reference:
    """20 quantile bins of a sample."""

    def __init__(self, random: np.random.Generator) -> None:
        self.sample: Floats = np.sort(random.lognormal(0.0, 1.0, _REFERENCE_ROWS))
        self.edges = np.quantile(self.sample, np.arange(1, BINS) / BINS)
        self.counts = self.count(self.sample)
        self.std = float(self.sample.std())

    def count(self, values: Floats) -> NDArray[np.int64]:
        return np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=BINS)

    def found(self, values: Floats) -> bool:
        return bool(compare(self.counts[None], self.count(values)[None]).p[0] < _ALPHA)

    def ks(self, values: Floats) -> bool:
        return bool(stats.ks_2samp(self.sample, values, method="asymp").pvalue < _ALPHA)

    def trivial(self, values: Floats) -> bool:
        """The mean has moved by a tenth."""
        return bool(abs(values.mean() / self.sample.mean() - 1.0) > 0.1)


def control(seed: int, months: int = 400, features: int = 30, days: int = 30, rows: int = 500) -> dict[str, Any]:
    """The share of months of a model without drift in which anything is told, by rule."""
    random, limits = np.random.default_rng(seed), Thresholds()
    reference = _Reference(random)
    edges = np.concatenate([[0.0], stats.norm.cdf(np.log(reference.edges)), [1.0]])
    counts = np.broadcast_to(reference.counts, (features, BINS))
    alarms = dict.fromkeys(("uncorrected", "benjamini_hochberg", "and_twice", "and_effect"), 0)
    for _ in range(months):
        told = dict.fromkeys(alarms, False)
        before = before_large = np.zeros(features, bool)
        for _ in range(days):
            result = compare(counts, random.multinomial(rows, np.diff(edges), features))
            found = discoveries(result.p, limits.false_discoveries)
            large = found & (result.js >= limits.min_effect)
            told["uncorrected"] |= bool((result.p < _ALPHA).any())
            told["benjamini_hochberg"] |= bool(found.any())
            told["and_twice"] |= bool((found & before).any())
            told["and_effect"] |= bool((large & before_large).any())
            before, before_large = found, large
        for name, said in told.items():
            alarms[name] += said
    shares = {name: round(count / months, 4) for name, count in alarms.items()}
    return {"months": months, "months_with_an_alarm": shares, "limit": 0.01, "kept": shares["and_effect"] <= 0.01}


def power(seed: int, trials: int = 200) -> list[dict[str, Any]]:
    """How often each fault is found, beside the Kolmogorov-Smirnov test and a trivial detector."""
    random = np.random.default_rng(seed)
    reference = _Reference(random)
    p95, std = float(np.quantile(reference.sample, 0.95)), reference.std

    def draw(n: int) -> Floats:
        return random.lognormal(0.0, 1.0, n)

    def outliers(n: int) -> Floats:
        values = draw(n)
        return np.where(random.random(n) < 0.05, 10.0 * std, values)

    cases: list[tuple[str, int, float, Callable[[int], Floats]]] = [
        ("control", 200, 0.0, draw),
        ("control", 1000, 0.0, draw),
        ("clipped at p95", 200, 0.83, lambda n: np.minimum(draw(n), np.nextafter(p95, 0.0))),
        ("5 % outliers at 10 sd", 1000, 0.99, outliers),
        ("shift 0.1 sd", 200, 0.49, lambda n: draw(n) + 0.1 * std),
        ("shift 0.1 sd", 1000, 1.0, lambda n: draw(n) + 0.1 * std),
    ]
    rows = []
    for name, n, wanted, make in cases:
        samples = [make(n) for _ in range(trials)]
        share = {
            way.__name__: round(float(np.mean([way(x) for x in samples])), 3)
            for way in (reference.found, reference.ks, reference.trivial)
        }
        slack = 2.6 * (max(wanted * (1 - wanted), 0.02) / trials) ** 0.5  # chance of `trials`
        kept = share["found"] <= 0.1 if name == "control" else share["found"] >= wanted - slack
        rows.append({"case": name, "rows": n, **share, "wanted": wanted, "kept": kept})
    return rows


def levels(seed: int, trials: int = 100, devices: int = 100, rows: int = 50) -> list[dict[str, Any]]:
    """A little for all, and a lot for a few: what the merged fleet sees, and what single devices do."""
    random = np.random.default_rng(seed)
    reference = _Reference(random)
    found: list[dict[str, Any]] = []
    for name, moved, shift in (("control", 0, 0.0), ("all by 0.1 sd", devices, 0.1), ("5 devices by 1 sd", 5, 1.0)):
        merged = single = 0
        for _ in range(trials):
            values = random.lognormal(0.0, 1.0, (devices, rows))
            values[:moved] += shift * reference.std
            counts = np.stack([reference.count(one) for one in values])
            merged += bool(compare(reference.counts[None], counts.sum(axis=0)[None]).p[0] < _ALPHA)
            each = compare(np.broadcast_to(reference.counts, counts.shape), counts)
            single += bool(discoveries(each.p, _ALPHA).any())
        found.append({"case": name, "merged": merged / trials, "any_device": single / trials})
    found[1]["kept"] = found[1]["merged"] >= 0.97
    found[2]["kept"] = found[2]["any_device"] >= 0.97
    return found
