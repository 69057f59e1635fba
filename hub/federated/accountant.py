"""What differential privacy a run has spent, and when it must stop. Pure.

Rules: what is protected is everything that one device ever tells (neighbours: the same run, in which that device's
updates are zero, so one device moves a sum by at most the clip); no amplification by sampling is claimed, because
devices are chosen by turn and by who is there, not by independent lots; every release counts in full for every device,
also for those that were not in it; what cannot be paid any more is not done.

A release with multiplier z is a Gaussian mechanism; k of them, also when each depends on the ones before, are together
exactly as one with z/sqrt(k) (Dong et al. 2022, corollary 2), whose epsilon at a delta is known exactly (Balle and Wang
2018, theorem 8). Rényi accounting (Flower's accountant, which has Google's inside) only bounds this from above; the
tests hold both against each other and against accounting by the subsampled Gaussian's moments (Mironov et al. 2019).
"""

from __future__ import annotations

import math

__all__ = ["affordable", "delta_at", "epsilon_at"]

_MAX_EPSILON = 1e6


def delta_at(epsilon: float, multiplier: float, releases: int) -> float:
    """The smallest delta at which so many releases are (epsilon, delta)-differentially private."""
    if releases < 1:
        return 0.0
    mu = math.sqrt(releases) / multiplier
    tail = math.exp(min(700.0, epsilon + _log_below(-epsilon / mu - mu / 2)))
    return max(0.0, _below(mu / 2 - epsilon / mu) - tail)


def epsilon_at(delta: float, multiplier: float, releases: int) -> float:
    """The epsilon of so many releases at `delta`, rounded up; infinite when there is no noise."""
    if not 0 < delta < 1 or releases < 0 or multiplier < 0:
        raise ValueError("a delta lies between 0 and 1; releases and noise are not negative")
    if releases == 0:
        return 0.0
    if multiplier == 0:
        return math.inf
    low, high = 0.0, 1.0
    while delta_at(high, multiplier, releases) > delta:
        low, high = high, 2 * high
        if high > _MAX_EPSILON:
            return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle, multiplier, releases) > delta else (low, middle)
    return high


def affordable(epsilon: float, delta: float, multiplier: float, at_most: int = 10**6) -> int:
    """How many releases (epsilon, delta) pays for."""
    low, high = 0, 1
    while high <= at_most and epsilon_at(delta, multiplier, high) <= epsilon:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon_at(delta, multiplier, middle) <= epsilon else (low, middle)
    return min(low, at_most)


def _below(x: float) -> float:
    """How likely a standard normal number is below x."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_below(x: float) -> float:
    """The logarithm of that, also where it is too small for a float."""
    if x > -30:
        return math.log(_below(x))
    return -x * x / 2 - math.log(-x) - math.log(2 * math.pi) / 2 + math.log1p(-1 / x**2 + 3 / x**4 - 15 / x**6)
