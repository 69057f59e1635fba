"""Whether a difference between shares is more than chance. Exact integer arithmetic: both hubs decide alike.

All tests are one-sided at about 1 in 2000 (z = 3.3), because a gate is judged again and again while a group bakes.

- A share against a limit before its sample is complete: the union bound C(n, k) * limit^k on the binomial tail for few
  events, else the score test, which is the statement that Wilson's lower bound lies above the limit (Wilson 1927).
- Two shares: the pooled two-proportion score test (as in Newcombe 1998, Statistics in Medicine 17, 873-890), for
  samples of at least `MIN_CONTROL_SAMPLE`.
"""

from __future__ import annotations

from math import comb

__all__ = ["MIN_CONTROL_SAMPLE", "PPM", "is_above", "is_worse"]

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


def is_worse(events: int, n: int, control_events: int, control_n: int) -> bool:
    """Whether the first share is greater than the control's by more than chance. Both samples are not empty."""
    difference = events * control_n - control_events * n
    total, pooled = n + control_n, events + control_events
    if difference <= 0:
        return False
    return difference * difference * total * _Z2_SCALE > _Z2 * n * control_n * pooled * (total - pooled)
