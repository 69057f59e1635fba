"""How long a node waits until it asks the hub for a task again. Pure: the caller tells the time (seconds).

Each question costs the hub some milliseconds of processor. So it is quick for the moment in which a task is expected,
because an accepted offer came, and slow while the node only stays in case another round begins; the next offer, which
comes over MQTT, makes it quick again.
"""

from __future__ import annotations

__all__ = ["Pace"]

_FIRST_S, _FACTOR, _QUICK_S, _PATIENT_S = 0.1, 1.5, 0.5, 1.0
_QUICK_FOR_S = 5.0
_LINGERING_S = 10.0


class Pace:
    """From now on a task is expected for `valid_s`."""

    def __init__(self, now_s: float, valid_s: float) -> None:
        self.expect(now_s, valid_s)

    def expect(self, now_s: float, valid_s: float) -> None:
        """An offer was accepted."""
        self._since_s, self._until_s = now_s, now_s + valid_s
        self._next_s = _FIRST_S

    def answered(self) -> None:
        """The task came and was answered; no other is expected."""
        self._until_s = self._since_s

    def expects(self, now_s: float) -> bool:
        """Is a task on its way?"""
        return now_s < self._until_s

    def wait_s(self, now_s: float) -> float:
        """How long to wait before the next question."""
        if not self.expects(now_s):
            return _LINGERING_S
        wait_s, self._next_s = self._next_s, self._next_s * _FACTOR
        quick = now_s - self._since_s < _QUICK_FOR_S
        return min(wait_s, _QUICK_S if quick else _PATIENT_S)
