"""Noise that makes a window's counts epsilon-differentially private before they leave the device.

Mechanism: two-sided geometric noise (discrete Laplace; Ghosh, Roughgarden, Sundararajan 2012) of parameter
a = exp(-epsilon / sensitivity) on every count. Neighbouring windows differ in one row, and their number of rows is
public, so one row moves at most one count down and one up in each histogram: sensitivity = 2 * histograms. The noise
has mean 0, so sums over windows and devices stay unbiased and the reader has nothing to subtract; it has to add
`variance` for each window to the variance of each count. Row numbers are not hidden. Windows of one device compose:
k windows cost k * epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from shared.preprocess.kernels import Array

__all__ = ["Geometric", "noisy", "variance"]

Geometric = Callable[[float, int], Array]
"""(p, size) to so many numbers from 1, geometric with success probability p."""


def _ratio(epsilon: float, histograms: int) -> float:
    return math.exp(-epsilon / (2 * histograms))


def noisy(counts: Array, *, epsilon: float, histograms: int, geometric: Geometric) -> Array:
    """The counts with noise; some may be negative."""
    p = 1.0 - _ratio(epsilon, histograms)
    noise = geometric(p, counts.size) - geometric(p, counts.size)
    found: Array = np.asarray(counts, np.int64) + noise.reshape(counts.shape)
    return found


def variance(epsilon: float, histograms: int) -> float:
    """The variance that one window's noise adds to each count; 0 without noise."""
    if not epsilon:
        return 0.0
    a = _ratio(epsilon, histograms)
    return 2.0 * a / (1.0 - a) ** 2
