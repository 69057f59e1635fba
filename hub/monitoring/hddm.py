"""HDDM_W: drift of a stream of errors by weighted moving averages and McDiarmid's bound. Pure; state in, state out.

One-sided: only a rise of the error rate counts. Source: Frias-Blanco et al. 2015, "Online and Non-Parametric Drift
Detection Methods Based on Hoeffding's Bounds", test W. The state is six numbers.
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["Hddm", "hddm_step"]

DRIFT_CONFIDENCE = 0.001
WEIGHT = 0.05


class _Average(msgspec.Struct, frozen=True):
    """An exponentially weighted mean, and the sum of its squared weights. `n` 0: nothing seen yet."""

    mean: float = 0.0
    squares: float = 0.0
    n: int = 0

    def add(self, value: float) -> _Average:
        keep = 1.0 - WEIGHT
        if self.n == 0:
            return _Average(value, WEIGHT**2 + keep**2, 1)
        return _Average(WEIGHT * value + keep * self.mean, WEIGHT**2 + keep**2 * self.squares, self.n + 1)

    @property
    def bound(self) -> float:
        return math.sqrt(self.squares * math.log(1.0 / DRIFT_CONFIDENCE) / 2.0)


class Hddm(msgspec.Struct, frozen=True):
    """`total`: since the start. `before`, `after`: the best cut found so far, and what came behind it.

    drift: the last value completed the evidence; the state has begun anew with that value forgotten.
    """

    total: _Average = _Average()
    before: _Average = _Average()
    after: _Average = _Average()
    best: float = math.inf
    drift: bool = False


def hddm_step(state: Hddm, error: float) -> Hddm:
    """The state after one labelled outcome; `error` is 1.0 for a wrong prediction and 0.0 for a right one."""
    if not 0.0 <= error <= 1.0:
        raise ValueError("an error lies between 0 and 1")
    total = state.total.add(error)
    edge = total.mean + total.bound
    if edge < state.best:
        moved = Hddm(total, total, _Average(), edge)
    else:
        moved = Hddm(total, state.before, state.after.add(error), state.best)
    return Hddm(drift=True) if _risen(moved.before, moved.after) else moved


def _risen(before: _Average, after: _Average) -> bool:
    if before.n == 0 or after.n == 0:
        return False
    bound = math.sqrt((before.squares + after.squares) * math.log(1.0 / DRIFT_CONFIDENCE) / 2.0)
    return after.mean - before.mean > bound
