"""ADWIN: a window over a stream of errors that forgets its old end once that differs from the new one. Pure.

Source: Bifet and Gavalda 2007, "Learning from Time-Changing Data with Adaptive Windowing", the version with an
exponential histogram: `BUCKETS` buckets of each size 1, 2, 4, ..., so a window over n outcomes takes O(log n) memory.
Every `CLOCK` outcomes each cut between two buckets is tested by a Bernstein bound with the variance of the window. A
cut counts as drift only when the newer part is worse; a fall of the error rate only shortens the window.
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["Adwin", "adwin_step"]

BUCKETS = 5
CLOCK = 32
DELTA = 0.002
_MIN_WINDOW = 10
_MIN_PART = 5


class Adwin(msgspec.Struct, frozen=True):
    """rows[k]: sums of the buckets of 2**k outcomes, oldest first; the widest row holds the oldest outcomes.

    seen: outcomes since the start. drift: the last outcome completed the evidence of a rise.
    """

    rows: tuple[tuple[float, ...], ...] = ((),)
    seen: int = 0
    drift: bool = False

    @property
    def width(self) -> int:
        """Outcomes in the window."""
        return sum(len(row) << k for k, row in enumerate(self.rows))

    @property
    def total(self) -> float:
        """Errors in the window."""
        return sum(map(sum, self.rows))


def adwin_step(state: Adwin, error: float, delta: float = DELTA) -> Adwin:
    """The state after one labelled outcome; `error` is 1.0 for a wrong prediction and 0.0 for a right one.

    delta: the probability of a cut although nothing changed.
    """
    if error not in (0.0, 1.0):
        raise ValueError("an outcome is right (0.0) or wrong (1.0)")
    rows = _insert(state.rows, error)
    seen = state.seen + 1
    if seen % CLOCK:
        return Adwin(rows, seen)
    drift = False
    while (worse := _cut(rows, delta)) is not None:
        drift = drift or worse
        rows = _forget(rows)
    return Adwin(rows, seen, drift)


def _insert(rows: tuple[tuple[float, ...], ...], error: float) -> tuple[tuple[float, ...], ...]:
    out = [list(row) for row in rows]
    out[0].append(error)
    level = 0
    while len(out[level]) > BUCKETS:
        if level + 1 == len(out):
            out.append([])
        out[level + 1].append(out[level].pop(0) + out[level].pop(0))
        level += 1
    return tuple(map(tuple, out))


def _forget(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Without the oldest bucket."""
    widest = rows[-1][1:]
    shorter = (*rows[:-1], widest)
    while len(shorter) > 1 and not shorter[-1]:
        shorter = shorter[:-1]
    return shorter


def _cut(rows: tuple[tuple[float, ...], ...], delta: float) -> bool | None:
    """Whether the newer part of the first significant cut is worse; None if no cut is significant."""
    width = sum(len(row) << k for k, row in enumerate(rows))
    if width <= _MIN_WINDOW:
        return None
    total = sum(map(sum, rows))
    mean = total / width
    variance = mean * (1.0 - mean)  # outcomes are 0 or 1
    confidence = math.log(2.0 * math.log(width) / delta)
    n0, sum0 = 0, 0.0
    for level in range(len(rows) - 1, -1, -1):
        for bucket in rows[level]:
            n0, sum0 = n0 + (1 << level), sum0 + bucket
            n1 = width - n0
            if n1 < _MIN_PART:
                return None
            if n0 < _MIN_PART:
                continue
            difference = (total - sum0) / n1 - sum0 / n0
            harmonic = 1.0 / (n0 - _MIN_PART + 1) + 1.0 / (n1 - _MIN_PART + 1)
            bound = math.sqrt(2.0 * harmonic * variance * confidence) + 2.0 / 3.0 * confidence * harmonic
            if abs(difference) > bound:
                return difference > 0
    return None
