"""Performance without labels: confidence-based estimation (CBPE) from summed histograms. Pure.

The reference says, for each predicted class and score bin, how often a prediction there was right. While that holds
(it is blind to concept drift; a trickle of labels is for that), the counts of today's predictions in the same cells
give today's expected confusion. Intervals hold both the chance in today's outcomes and that of the calibration itself.
Source: NannyML's CBPE, on cells instead of single scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "accuracy", "auc", "binary_f1", "calibrate"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its 95 % interval; `n` predictions. Without predictions: value NaN, interval 0 to 1."""

    value: float
    low: float
    high: float
    n: int


def calibrate(right: Counts, n: Counts, prior: Floats) -> Floats:
    """The probability of a right prediction in each cell [classes, bins]; an empty cell takes `prior` of its shape
    (for example the middle of its score bin), which weighs as much as one observation elsewhere."""
    return np.asarray((right + prior) / (n + 1.0), np.float64)


def accuracy(counts: Counts, right: Floats, calibration_n: Counts) -> Estimate:
    """Expected accuracy of `counts` predictions; `right` is P(right), all [classes, bins]."""
    n = int(counts.sum())
    if n == 0:
        return Estimate(float("nan"), 0.0, 1.0, 0)
    value = float((counts * right).sum() / n)
    spread = right * (1.0 - right)
    chance = float((counts * spread).sum()) / n**2
    calibration = float((counts.astype(np.float64) ** 2 * spread / np.maximum(calibration_n, 1)).sum()) / n**2
    return _interval(value, chance + calibration, n)


def auc(counts: Counts, positive: Floats) -> Estimate:
    """Expected ROC AUC of a binary score: `counts` and P(positive) by ascending score bin, both [bins].

    Within a bin the order of scores is unknown; the expectation there is that of a calibrated, locally linear score.
    The interval is Hanley and McNeil's (1982).
    """
    n = int(counts.sum())
    positives, negatives = counts * positive, counts * (1.0 - positive)
    p, q = float(positives.sum()), float(negatives.sum())
    if n == 0 or p <= 0 or q <= 0:
        return Estimate(float("nan"), 0.0, 1.0, n)
    below = np.concatenate([[0.0], np.cumsum(negatives)[:-1]])
    within = positives * negatives * (0.5 + _ordered_within(positive))
    value = float(((positives * below).sum() + within.sum()) / (p * q))
    q1, q2 = value / (2.0 - value), 2.0 * value**2 / (1.0 + value)
    variance = (value * (1 - value) + (p - 1) * (q1 - value**2) + (q - 1) * (q2 - value**2)) / (p * q)
    return _interval(value, max(variance, 0.0), n)


def binary_f1(counts: Counts, right: Floats, positive_class: int = 1) -> Estimate:
    """Expected F1 of one class of two; `counts` and P(right) by predicted class and score bin [2, bins]."""
    if counts.shape[0] != 2:
        raise ValueError("F1 is estimated for two classes")
    n = int(counts.sum())
    expected = counts * right
    hits = float(expected[positive_class].sum())
    false_alarms = float(counts[positive_class].sum()) - hits
    other = 1 - positive_class
    missed = float(counts[other].sum()) - float(expected[other].sum())
    size = 2 * hits + false_alarms + missed
    if n == 0 or size <= 0:
        return Estimate(float("nan"), 0.0, 1.0, n)
    value = 2 * hits / size
    # Delta method: each prediction of a cell turns out right with the cell's probability, independently.
    spread = counts * right * (1.0 - right)
    slope_positive, slope_other = (2.0 - value) / size, value / size
    variance = float(spread[positive_class].sum()) * slope_positive**2 + float(spread[other].sum()) * slope_other**2
    return _interval(value, variance, n)


def _ordered_within(positive: Floats) -> Floats:
    """By how much a positive beats a negative of its own bin beyond 1/2: P(positive) rises within a bin as it does
    between its neighbours. With slope d over the bin and mean m that is d / (12 m (1 - m)), at most 1/6 of the odds."""
    if positive.size < 2:
        return np.zeros_like(positive)
    slope = np.clip(np.gradient(positive), 0.0, None)
    limit = 2.0 * np.minimum(positive, 1.0 - positive)
    m = np.clip(positive, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.minimum(slope, limit) / (12.0 * m * (1.0 - m)), np.float64)


def _interval(value: float, variance: float, n: int) -> Estimate:
    half = _Z95 * float(np.sqrt(variance))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), n)
