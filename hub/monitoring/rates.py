"""Does a device see as many rows as its data contract says? Pure.

Rules: rows that were looked at, skipped or refused all came from the application, so all count. The number must be
rarer than `chance` under the contract's own rate (Poisson), so a short window is not held against anybody. A window
that says it lasted longer than `_MOST_S` was measured with a clock that was set meanwhile, and says nothing.
"""

from __future__ import annotations

from scipy import special

from shared.drift.reference import Rate
from shared.wire.window import Window

__all__ = ["RATE_HIGH", "RATE_LOW", "rate_fault"]

RATE_LOW, RATE_HIGH = "rate_low", "rate_high"
_HOUR_S = 3600.0
_MOST_S = 8 * 86_400.0


def rate_fault(window: Window, rate: Rate, chance: float) -> str:
    """`rate_low`, `rate_high`, or empty."""
    lasted_s = window.ended_s - window.started_s
    if not 0 < lasted_s <= _MOST_S:
        return ""
    rows = window.rows + window.skipped + sum(window.refused.values())
    least, most = rate.least_per_h * lasted_s / _HOUR_S, (rate.most_per_h or 0.0) * lasted_s / _HOUR_S
    if least > 0 and special.pdtr(rows, least) < chance:
        return RATE_LOW
    if rate.most_per_h is not None and rows > most and special.pdtrc(rows - 1, most) < chance:
        return RATE_HIGH
    return ""
