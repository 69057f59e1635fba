"""Whether a difference between shares is more than chance. Exact integer arithmetic: both hubs decide alike.

All tests are one-sided at about 1 in 2000 (z = 3.3), because a gate is judged again and again while a group bakes.

- A share against a limit before its sample is complete: the union bound C(n, k) * limit^k on the binomial tail for few
  events, else the score test, which is the statement that Wilson's lower bound lies above the limit (Wilson 1927).
- Two shares, like with like: the difference by Mantel and Haenszel over strata (firmware profiles), because a wave may
  have another mix of profiles than its control, and the test of Cochran, Mantel and Haenszel. With one stratum that is
  the pooled two-proportion score test. For samples of at least `MIN_CONTROL_SAMPLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

__all__ = ["MIN_CONTROL_SAMPLE", "PPM", "Stratum", "is_above", "is_worse", "is_worse_by", "standardised"]

PPM = 1_000_000
MIN_CONTROL_SAMPLE = 30
_Z2, _Z2_SCALE = 1089, 100  # 3.3 squared
_ODDS = 2000
_FEW_EVENTS = 40


def is_above(events: int, n: int, limit_ppm: int) -> bool:
    """Whether the true share is above the limit beyond reasonable doubt, however small the sample."""
    over = events * PPM - limit_ppm * n
    if over <= 0:
        return False
    if events <= _FEW_EVENTS:
        return comb(n, events) * int(limit_ppm**events) * _ODDS <= int(PPM**events)
    return over * over * _Z2_SCALE > _Z2 * n * limit_ppm * (PPM - limit_ppm)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Events of the version and of its control among devices that are alike. Both samples are not empty."""

    events: int
    n: int
    control_events: int
    control_n: int

    @property
    def total(self) -> int:
        """Both samples together."""
        return self.n + self.control_n

    @property
    def excess(self) -> Fraction:
        """How many events too many, against what both samples together would lead one to expect."""
        return Fraction(self.events * self.control_n - self.control_events * self.n, self.total)

    @property
    def weight(self) -> Fraction:
        """Mantel's and Haenszel's weight of the difference of the two shares."""
        return Fraction(self.n * self.control_n, self.total)

    @property
    def variance(self) -> Fraction:
        """Of the excess, if version and control do not differ."""
        pooled = self.events + self.control_events
        return Fraction(self.n * self.control_n * pooled * (self.total - pooled), self.total**3)


def is_worse_by(strata: Sequence[Stratum], threshold_ppm: int) -> bool:
    """Whether the version's share is greater than its control's by more than the threshold, chance or not."""
    return sum(one.excess for one in strata) * PPM > sum(one.weight for one in strata) * threshold_ppm


def is_worse(strata: Sequence[Stratum]) -> bool:
    """Whether the version's share is greater than its control's by more than chance."""
    excess = sum((one.excess for one in strata), start=Fraction(0))
    return excess > 0 and excess * excess * _Z2_SCALE > _Z2 * sum(one.variance for one in strata)


def standardised(strata: Sequence[Stratum]) -> Fraction:
    """The control's share, had it the version's mix of strata."""
    expected = sum((Fraction(one.n * one.control_events, one.control_n) for one in strata), start=Fraction(0))
    return expected / sum(one.n for one in strata)
