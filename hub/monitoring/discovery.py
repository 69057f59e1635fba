"""Which of many tests count: the false-discovery rate, and persistence over two windows. Pure.

30 features tested every day at the 5 % level raise an alarm in practically every month without any drift. Benjamini
and Hochberg's procedure over the features of a window, and the same feature again in the next window, bring that below
one month in a hundred.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["discoveries", "persistent"]


def discoveries(p: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Which p-values [tests] are discoveries at a false-discovery rate (Benjamini and Hochberg 1995)."""
    if not 0.0 < rate < 1.0:
        raise ValueError("a rate lies between 0 and 1")
    if np.isnan(p).any():
        raise ValueError("a p-value is not a number")
    tests = p.size
    order = np.argsort(p, kind="stable")
    passing = np.flatnonzero(p[order] <= rate * np.arange(1, tests + 1) / tests) if tests else np.empty(0, np.int64)
    found = np.zeros(tests, dtype=bool)
    if passing.size:
        found[order[: passing[-1] + 1]] = True
    return found


def persistent(now: NDArray[np.bool_], before: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which features were found in this window and in the one before it."""
    if now.shape != before.shape:
        raise ValueError("both windows must have the same features")
    return now & before
