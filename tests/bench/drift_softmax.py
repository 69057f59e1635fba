"""Part of `tests.bench.drift`: what counters of a classifier's outputs see, beside tests on the outputs themselves.

Black-box shift detection (Lipton et al. 2018, Rabanser et al. 2019) tests each output of the softmax by Kolmogorov and
Smirnov, with Bonferroni's correction. Here the outputs are counted in 20 bins of equal shares, as devices count them.
Digits of scikit-learn; every trial splits what was not trained on into a reference and 400 rows that are disturbed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hub.monitoring.discovery import discoveries
from hub.monitoring.divergence import compare

__all__ = ["softmax"]

Floats = NDArray[np.float64]
_ALPHA, _BINS, _ROWS, _TRAINED = 0.05, 20, 400, 900


def _counters(before: Floats, after: Floats) -> bool:
    reference: list[NDArray[np.int64]] = []
    current: list[NDArray[np.int64]] = []
    for column in range(before.shape[1]):
        edges = np.quantile(before[:, column], np.arange(1, _BINS) / _BINS)
        for values, into in ((before[:, column], reference), (after[:, column], current)):
            into.append(np.bincount(np.searchsorted(edges, values, side="right"), minlength=_BINS))
    return bool(discoveries(compare(np.array(reference), np.array(current)).p, _ALPHA).any())


def _ks(before: Floats, after: Floats) -> bool:
    columns = range(before.shape[1])
    least = min(stats.ks_2samp(before[:, c], after[:, c], method="asymp").pvalue for c in columns)
    return bool(least < _ALPHA / before.shape[1])


def _trivial(before: Floats, after: Floats) -> bool:
    """The mean of the highest score has moved by a twentieth."""
    return bool(abs(after.max(axis=1).mean() / before.max(axis=1).mean() - 1.0) > 0.05)


def _blurred(x: Floats) -> Floats:
    pictures = np.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), mode="edge")
    return (
        np.asarray(sum(pictures[:, a : a + 8, b : b + 8] for a in range(3) for b in range(3)), float).reshape(-1, 64)
        / 9
    )


def softmax(seed: int, trials: int = 100) -> list[dict[str, Any]]:
    """How often each disturbance is found; the counters must do as well as the tests on the raw outputs."""
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(seed)
    digits = load_digits()
    x, y = digits.data / 16.0, digits.target
    order = random.permutation(len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((64,), max_iter=60, random_state=seed).fit(x[order[:_TRAINED]], y[order[:_TRAINED]])
    rest = order[_TRAINED:]
    cases: list[tuple[str, Callable[[Floats, NDArray[np.int64]], Floats]]] = [
        ("control", lambda x, _y: x),
        ("half as bright", lambda x, _y: x * 0.5),
        ("a fifth blurred", lambda x, _y: np.where(random.random((len(x), 1)) < 0.2, _blurred(x), x)),
        ("noise of .3", lambda x, _y: x + random.normal(0, 0.3, x.shape)),
        ("noise of .05", lambda x, _y: x + random.normal(0, 0.05, x.shape)),
        ("no eights", lambda x, y: x[y != 8]),
    ]
    found: list[dict[str, Any]] = []
    for name, disturb in cases:
        told = dict.fromkeys(("counters", "ks", "trivial"), 0)
        for _ in range(trials):
            split = random.permutation(rest)
            before = model.predict_proba(x[split[:-_ROWS]])
            after = model.predict_proba(disturb(x[split[-_ROWS:]], y[split[-_ROWS:]]))
            for way, test in (("counters", _counters), ("ks", _ks), ("trivial", _trivial)):
                told[way] += test(before, after)
        row: dict[str, Any] = {"case": name, **{way: round(count / trials, 3) for way, count in told.items()}}
        slack = 2.6 * (2 * max(row["ks"] * (1 - row["ks"]), 0.02) / trials) ** 0.5  # chance of both
        row["kept"] = row["counters"] <= 0.1 if name == "control" else row["counters"] >= row["ks"] - slack
        found.append(row)
    return found
