"""Which messages to send next, and when to send them again: go-back-N over the outbox's numbers. Pure.

Rules: in order, at most `limit` under way; only the hub's confirmation moves the window (a PUBACK says nothing about
the hub's disk). A window that stands still for too long goes back to the first unconfirmed message, and then sends
that one alone until the hub answers, so that an absent hub is not buried in copies. A hub that was restored from a
backup asks for what is long forgotten here; that is recognised by its answers, one to each of several repetitions,
because late answers look the same.
"""

from __future__ import annotations

from collections import deque

from agent.ota.backoff import Backoff, delay_s

__all__ = ["SendWindow"]

_ASKED_COUNT = 3


class SendWindow:
    """The numbers under way on one connection. Times are seconds of a monotonic clock, handed in."""

    def __init__(self, limit: int, stall: Backoff) -> None:
        self._most = limit
        self._stall = stall
        self._limit = limit
        self._under_way: deque[int] = deque()
        self._position = 0
        self._stalls = 0
        self._behind = 0
        self._deadline_s: float | None = None

    @property
    def position(self) -> int:
        """The number after which to read the outbox."""
        return self._position

    @property
    def room(self) -> int:
        """How many more messages may be sent now."""
        return max(0, self._limit - len(self._under_way))

    @property
    def deadline_s(self) -> float | None:
        """When the window counts as stalled; None while nothing is under way."""
        return self._deadline_s

    @property
    def hub_lost_its_place(self) -> bool:
        """Whether the hub, asked again and again, only ever answered that it has less than it had confirmed."""
        return self._behind >= _ASKED_COUNT

    def restart(self, watermark: int) -> None:
        """A new connection, or a new epoch of the outbox: nothing is under way."""
        self._under_way.clear()
        self._position = watermark
        self._limit = self._most
        self._stalls = 0
        self._behind = 0
        self._deadline_s = None

    def sent(self, seq: int, now_s: float, random: float) -> None:
        """A message left. `random` in [0, 1) spreads the devices of a fleet."""
        self._under_way.append(seq)
        self._position = seq
        if self._deadline_s is None:
            self._deadline_s = now_s + delay_s(self._stall, self._stalls + 1, random)

    def confirmed(self, watermark: int, now_s: float, random: float) -> None:
        """The hub committed up to `watermark`."""
        while self._under_way and self._under_way[0] <= watermark:
            self._under_way.popleft()
        self._position = max(self._position, watermark)
        self._limit = self._most
        self._stalls = 0
        self._behind = 0
        self._deadline_s = now_s + delay_s(self._stall, 1, random) if self._under_way else None

    def answered_behind(self) -> None:
        """The hub answered with a watermark below the one that it had confirmed: late, or restored from a backup.

        Counted once for each time that it was asked again, so that many late answers weigh no more than one.
        """
        self._behind = min(self._behind + 1, self._stalls)

    def stalled(self, watermark: int) -> None:
        """The deadline passed: go back to the first unconfirmed message and send it alone."""
        self._under_way.clear()
        self._position = watermark
        self._limit = 1
        self._stalls += 1
        self._deadline_s = None
