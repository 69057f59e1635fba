"""What becomes of one alert from period to period. Pure.

    (none) -> pending -> open <-> acknowledged -> resolved
                 \\________ gone ________/

Rules: one alert per key at a time; a period counts once, and only forward; between `clear` and `threshold` nothing
changes (hysteresis); an alert that is held does not open, but counts on, so it opens at once when what held it ends.
Acknowledging says that somebody has seen it; it does not resolve anything.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hub.alerts.rules import Rule

__all__ = ["LIVE", "Alert", "Step", "ended", "step"]

State = Literal["pending", "open", "acknowledged", "resolved", "gone"]
LIVE = ("pending", "open", "acknowledged")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alert stands. breached, calm: periods in a row; period_s: the last that was looked at."""

    state: State = "pending"
    breached: int = 0
    calm: int = 0
    period_s: int = -1
    opened_s: float | None = None
    resolved_s: float | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The alert after a period, None: there is none; and what is to be told."""

    alert: Alert | None
    event: Literal["", "opened", "resolved"] = ""


def ended(alert: Alert, now: float) -> Alert:
    """The alert once it is over; one that never opened leaves nothing behind."""
    if alert.state == "pending":
        return msgspec.structs.replace(alert, state="gone")
    return msgspec.structs.replace(alert, state="resolved", resolved_s=now)


def step(before: Alert | None, rule: Rule, value: float, period_s: int, now: float, *, held: bool = False) -> Step:
    """The alert after a period with this value."""
    if before is None and value < rule.threshold:
        return Step(alert=None)
    alert = before or Alert()
    if period_s <= alert.period_s:
        return Step(alert=before)
    if value >= rule.threshold:
        alert = msgspec.structs.replace(alert, breached=alert.breached + 1, calm=0, period_s=period_s)
    elif value < rule.clear or value <= 0.0:
        alert = msgspec.structs.replace(alert, breached=0, calm=alert.calm + 1, period_s=period_s)
    else:
        alert = msgspec.structs.replace(alert, period_s=period_s)
    if alert.state == "pending":
        if alert.calm:
            return Step(alert=ended(alert, now))
        if alert.breached >= rule.open_after and not held:
            return Step(alert=msgspec.structs.replace(alert, state="open", opened_s=now), event="opened")
    elif alert.calm >= rule.close_after:
        return Step(alert=ended(alert, now), event="resolved")
    return Step(alert=alert)
