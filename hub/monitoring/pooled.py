"""A rise of the error rate that is too weak for any one device, found in the summed counts of many. Pure.

A cumulative sum of likelihood ratios (Page 1954) over batches of labelled outcomes, pooled over the fleet in the order
of their windows: it needs only how many were labelled and how many were wrong. The alternative is the smallest rise
worth an alarm; evidence for it adds up, evidence against it is forgotten at zero.
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["Pooled", "expected_rate", "pooled_step"]

THRESHOLD = 7.0  # natural log of the likelihood ratio: e**7, about one false alarm in 1,100 independent looks
_FLOOR = 1e-4


class Pooled(msgspec.Struct, frozen=True):
    """evidence: log likelihood ratio for the risen rate since it began. n, errors: what came since then."""

    evidence: float = 0.0
    n: int = 0
    errors: int = 0

    @property
    def drift(self) -> bool:
        """Is there enough evidence?"""
        return self.evidence > THRESHOLD


def expected_rate(errors: int, n: int) -> float:
    """The error rate that the reference promises, never exactly 0 or 1 (half a count each)."""
    if not 0 <= errors <= n:
        raise ValueError("more errors than outcomes")
    return (errors + 0.5) / (n + 1.0)


def pooled_step(state: Pooled, errors: int, n: int, expected: float, rise: float = 0.15) -> Pooled:
    """The state after a batch of `n` outcomes of which `errors` were wrong.

    expected: the rate without drift. rise: the smallest relative rise worth an alarm (0.15: from .122 to .140).
    """
    if not 0 <= errors <= n:
        raise ValueError("more errors than outcomes")
    if rise <= 0:
        raise ValueError("a rise is above 0")
    p0 = min(max(expected, _FLOOR), 1.0 - 2 * _FLOOR)
    p1 = min(p0 * (1.0 + rise), 1.0 - _FLOOR)
    gain = errors * math.log(p1 / p0) + (n - errors) * math.log((1.0 - p1) / (1.0 - p0))
    evidence = state.evidence + gain
    if evidence <= 0.0:
        return Pooled()
    return Pooled(evidence, state.n + n, state.errors + errors)
