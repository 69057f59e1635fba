"""Part of `tests.bench.drift`: performance estimated without labels, on a synthetic set and on real digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from hub.monitoring.estimate import accuracy, auc, calibrate
from hub.monitoring.judge import cell_prior

__all__ = ["real", "synthetic"]

Floats = NDArray[np.float64]
BINS = 20


def _cells(p: Floats, edges: Floats, weight: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Counts [predicted class, score bin] of P(positive); `weight` 0 or 1 a row."""
    predicted = (p >= 0.5).astype(int)
    bins = np.searchsorted(edges, np.maximum(p, 1.0 - p), side="right")
    counts = np.zeros((2, BINS), np.int64)
    np.add.at(counts, (predicted, bins), 1 if weight is None else weight)
    return counts


def _estimate(reference: tuple[Floats, NDArray[np.int64]], current: Floats) -> tuple[float, float]:
    p, y = reference
    edges = np.quantile(np.maximum(p, 1.0 - p), np.arange(1, BINS) / BINS)
    n = _cells(p, edges)
    hits = _cells(p, edges, ((p >= 0.5).astype(int) == y).astype(np.int64))
    bounds = np.concatenate([[0.5], edges, [1.0]])
    right = calibrate(hits, n, cell_prior(hits, n, (bounds[:-1] + bounds[1:]) / 2.0))
    counts = _cells(current, edges)
    order = np.concatenate([counts[0][::-1], counts[1]])
    positive = np.concatenate([1.0 - right[0][::-1], right[1]])
    return accuracy(counts, right, n).value, auc(order, positive).value


def synthetic(seed: int, trials: int = 20, n: int = 50_000) -> dict[str, Any]:
    """Scores that lean more and more; the labels come from the scores."""
    random = np.random.default_rng(seed)

    def population(lean: float) -> tuple[Floats, NDArray[np.int64]]:
        p = random.beta(2.0 - lean, 2.0 + lean, n)
        return p, (random.random(n) < p).astype(np.int64)

    reference = population(0.0)
    wrong: list[tuple[float, float, float]] = []
    promised = float(((reference[0] >= 0.5) == reference[1]).mean())
    for trial in range(trials):
        p, y = population(0.8 * trial / trials)
        said = _estimate(reference, p)
        true = float(((p >= 0.5) == y).mean())
        wrong.append((abs(said[0] - true), abs(said[1] - float(roc_auc_score(y, p))), abs(promised - true)))
    mean = np.mean(wrong, axis=0)
    return _row("synthetic", mean, "mean absolute error")


def real(seed: int, pairs: int = 100) -> dict[str, Any]:
    """Digits, odd or even, by a weak model; what it is given leans to other digits than the calibration had.

    A split has 450 rows, so its true accuracy scatters by more than a point and says little of an estimator that is
    good to half of one. What counts is the bias, with its 95 % interval, all of which must be within the limit. Each
    split is used both ways round, calibration for current, because what chance adds to the one it takes from the other.
    What a single split is off by stands beside what an estimator would be that knew the expectation of its truth.
    """
    x, y = load_digits(return_X_y=True)
    odd = y % 2
    off, rows = [], []
    for pair in range(pairs):
        state = 1000 * seed + pair
        random = np.random.default_rng((seed, pair))
        first, rest = train_test_split(np.arange(len(x)), test_size=0.8, random_state=state)
        model = LogisticRegression(C=1e-3, max_iter=500).fit(x[first], odd[first])
        a, b = train_test_split(rest, test_size=0.5, random_state=state)
        for calibration, current in ((a, b), (b, a)):
            p_calibration = model.predict_proba(x[calibration])[:, 1]
            p = model.predict_proba(x[current])[:, 1]
            keep = random.random(len(p)) < np.where(np.maximum(p, 1 - p) > 0.8, 0.4, 1.0)  # harder ones come more often
            p, truth = p[keep], odd[current][keep]
            said = _estimate((p_calibration, odd[calibration]), p)
            true = float(((p >= 0.5) == truth).mean())
            promised = float(((p_calibration >= 0.5) == odd[calibration]).mean())
            off.append((said[0] - true, said[1] - float(roc_auc_score(truth, p)), promised - true))
            rows.append((true, len(p)))
    return _real_row(np.array(off), *np.mean(rows, axis=0))


def _real_row(errors: Floats, right: float, count: float) -> dict[str, Any]:
    """errors: [split, (accuracy, AUC, trivial)], both ways of a split one after the other."""
    both = errors.reshape(-1, 2, 3).mean(axis=1)
    half = 1.96 * both.std(axis=0, ddof=1) / len(both) ** 0.5
    row = _row("digits, odd or even", np.abs(both.mean(axis=0)), f"bias over {len(errors)} splits", half)
    row["a single split (accuracy, auc)"] = [round(float(value), 4) for value in np.abs(errors).mean(axis=0)[:2]]
    row["of that chance in its truth (accuracy)"] = round(float((2 / np.pi * right * (1 - right) / count) ** 0.5), 4)
    return row


def _row(name: str, errors: Floats, measure: str, half: Floats | None = None) -> dict[str, Any]:
    """errors: of accuracy, AUC, and of the trivial estimate. half: of their 95 % intervals."""
    accuracy_error, auc_error, trivial = (round(float(value), 5) for value in errors)
    row: dict[str, Any] = {"case": name, "measure": measure, "accuracy": accuracy_error, "auc": auc_error}
    spread = np.zeros(3) if half is None else half
    if half is not None:
        row["95 % interval, +-"] = [round(float(value), 5) for value in half[:2]]
    row |= {"trivial (what was promised)": trivial, "bytes_a_device": 2 * BINS * 4, "limit": 0.005}
    row["kept"] = bool((errors[:2] + spread[:2] <= 0.005).all())
    return row
