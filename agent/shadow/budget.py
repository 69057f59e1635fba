"""How much processor a candidate may use: measured time against a share of one core. Pure: the caller tells the time.

What is not used is saved up for a few seconds only, so that a quiet night does not pay for a busy minute.
"""

from __future__ import annotations

__all__ = ["CpuBudget"]

_SAVED_S = 5.0


class CpuBudget:
    """`share_bp`: of one core, in hundredths of a percent. Starts with what a full saving holds."""

    def __init__(self, share_bp: int, now_s: float) -> None:
        self._share = share_bp / 10_000
        self._at_s = now_s
        self._left_s = self._share * _SAVED_S

    def allows(self, now_s: float) -> bool:
        """Whether something may be spent at this moment."""
        gained_s = self._share * max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        self._left_s = min(self._left_s + gained_s, self._share * _SAVED_S)
        return self._left_s > 0.0

    def spend(self, cpu_s: float) -> None:
        """So much was used; it may be more than was left, which is then owed."""
        self._left_s -= cpu_s
