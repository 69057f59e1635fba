"""Performance estimated without labels, held against the labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from hub.monitoring.estimate import accuracy, auc, binary_f1, calibrate

BINS = 20
Floats = NDArray[np.float64]


def _population(seed: int, n: int, lean: float) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated scores of class 1, and labels drawn from them; `lean` moves the mass towards class 1."""
    rng = np.random.default_rng(seed)
    score = rng.beta(1.2 + lean, 1.8, size=n)
    return score, (rng.random(n) < score).astype(np.int64)


def _bin(score: Floats) -> NDArray[np.int64]:
    return np.minimum((score * BINS).astype(np.int64), BINS - 1)


def _cells(score: Floats, weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """Summed `weight` by predicted class and bin of the score of class 1 [2, bins]."""
    out = np.zeros((2, BINS), np.int64)
    np.add.at(out, ((score >= 0.5).astype(int), _bin(score)), weight)
    return out


def _calibration() -> tuple[Floats, NDArray[np.int64], Floats]:
    score, label = _population(1, 200_000, 0.0)
    predicted = (score >= 0.5).astype(np.int64)
    n = _cells(score, np.ones_like(label))
    middle = (np.arange(BINS) + 0.5) / BINS
    right = calibrate(_cells(score, (predicted == label).astype(np.int64)), n, np.stack([1 - middle, middle]))
    by_bin = np.bincount(_bin(score), minlength=BINS)
    positive = calibrate(np.bincount(_bin(score), weights=label, minlength=BINS).astype(np.int64), by_bin, middle)
    return right, n, positive


@pytest.mark.parametrize("lean", [0.0, 0.7, 2.0])
def test_estimates_are_within_half_a_point_of_the_truth(lean: float) -> None:
    right, n, positive = _calibration()
    score, label = _population(2, 100_000, lean)
    predicted = (score >= 0.5).astype(np.int64)
    counts = _cells(score, np.ones_like(label))
    estimated = accuracy(counts, right, n)
    assert estimated.value == pytest.approx((predicted == label).mean(), abs=0.005)
    assert auc(counts.sum(axis=0), positive).value == pytest.approx(roc_auc_score(label, score), abs=0.005)
    assert binary_f1(counts, right).value == pytest.approx(f1_score(label, predicted), abs=0.005)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    right, n, _ = _calibration()
    held = 0
    for seed in range(300):
        score, label = _population(100 + seed, 500, 0.5)
        estimated = accuracy(_cells(score, np.ones_like(label)), right, n)
        held += estimated.low <= ((score >= 0.5) == label).mean() <= estimated.high
    assert 0.92 <= held / 300 <= 0.98


def test_sums_over_devices_estimate_the_same_as_all_at_once() -> None:
    right, n, _ = _calibration()
    score, label = _population(3, 6000, 1.0)
    whole = _cells(score, np.ones_like(label))
    parts = sum((_cells(part, np.ones(len(part), np.int64)) for part in np.array_split(score, 7)), np.zeros_like(whole))
    assert accuracy(parts, right, n) == accuracy(whole, right, n)


def test_no_predictions_give_no_estimate() -> None:
    right, n, positive = _calibration()
    for estimated in (
        accuracy(np.zeros((2, BINS), np.int64), right, n),
        auc(np.zeros(BINS, np.int64), positive),
        binary_f1(np.zeros((2, BINS), np.int64), right),
    ):
        assert math.isnan(estimated.value)
        assert (estimated.low, estimated.high) == (0.0, 1.0)


def test_f1_is_for_two_classes() -> None:
    with pytest.raises(ValueError, match="two classes"):
        binary_f1(np.zeros((3, BINS), np.int64), np.zeros((3, BINS)))
