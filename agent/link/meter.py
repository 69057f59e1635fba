"""What a device learns of its link and of its clock from the hub's confirmations, at no cost of its own. Pure.

Rules:
- A round trip goes from a message's first sending to the confirmation that covers it. A message that was sent before
  is never measured (nobody knows which copy was answered), and one that the window gave up is forgotten.
- The hub's time in a confirmation lies between the two ends of its round trip, so the clock is known to half of it;
  of several since the last heartbeat the shortest counts, as in NTP. A heartbeat that waits says what was so then.
"""

from __future__ import annotations

import msgspec

__all__ = ["LinkMeter", "LinkReadings"]

_DIGITS = 4


class LinkReadings(msgspec.Struct, frozen=True, kw_only=True):
    """Since the last heartbeat. rtt_s: the shortest round trip, with the hub's commit in it. clock_ahead_s: of the
    hub's; None: nothing was confirmed."""

    way: str = "none"
    reconnects: int = 0
    rtt_s: float | None = None
    clock_ahead_s: float | None = None


class LinkMeter:
    """Times of a monotonic clock and of the wall are handed in, in seconds."""

    def __init__(self) -> None:
        self._epoch = ""
        self._highest = 0
        self._probe: tuple[int, float] | None = None
        self._connections = 0
        self._told_connections = 1  # the first is no reconnection
        self._asked = False
        self._best: tuple[float, float | None] | None = None

    def connected(self) -> None:
        """A connection began."""
        self._connections += 1

    def begin(self, epoch: str) -> None:
        """What is under way is forgotten: a new connection, a new epoch, or a window that went back."""
        self._probe = None
        if epoch != self._epoch:
            self._epoch, self._highest = epoch, 0

    def sent(self, seq: int, now_s: float) -> None:
        """A message left."""
        if seq <= self._highest:
            return
        self._highest = seq
        if self._probe is None:
            self._probe = (seq, now_s)

    def confirmed(self, epoch: str, seq: int, hub_s: float | None, now_s: float, wall_s: float) -> None:
        """A confirmation arrived at `now_s`, which was `wall_s` by the device's clock. `hub_s`: the hub's time."""
        if self._probe is None or epoch != self._epoch or seq < self._probe[0]:
            return
        began_s, self._probe = self._probe[1], None
        self._note(max(0.0, now_s - began_s), hub_s, wall_s)

    def asked(self, rtt_s: float | None, hub_s: float | None, wall_s: float) -> None:
        """An exchange over HTTPS succeeded; `rtt_s`: None: it delivered nothing."""
        self._asked = True
        if rtt_s is not None:
            self._note(rtt_s, hub_s, wall_s)

    def take(self, *, connected: bool) -> LinkReadings:
        """The readings; what follows counts for the next heartbeat."""
        rtt_s, ahead_s = self._best or (None, None)
        readings = LinkReadings(
            way="mqtt" if connected else "https" if self._asked else "none",
            reconnects=max(0, self._connections - self._told_connections),
            rtt_s=rtt_s,
            clock_ahead_s=ahead_s,
        )
        self._told_connections = max(self._connections, 1)
        self._asked, self._best = False, None
        return readings

    def _note(self, rtt_s: float, hub_s: float | None, wall_s: float) -> None:
        if self._best is not None and self._best[0] <= rtt_s:
            return
        ahead_s = None if hub_s is None else round(wall_s - rtt_s / 2 - hub_s, _DIGITS)
        self._best = (round(rtt_s, _DIGITS), ahead_s)
