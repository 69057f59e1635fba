"""Whether a version that is ready may become active now, and what it waits for otherwise. Pure.

Rules: an assignment that is to be held back or to run as a shadow is never activated, whatever the time. A window
counts by the device's clock. A clock that is behind the moment at which the hub signed the assignment is wrong for
sure; while it is, the window counts as closed, because activating at any hour is what the window is there to prevent.
A window that this device cannot evaluate (an unknown time zone) fails the installation, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from shared.errors import InvalidInput
from shared.profiles import MaintenanceWindow
from shared.wire.down import Assignment, Mode, Window

__all__ = ["Waiting", "mode_of", "waiting", "window_of"]

_SKEW_S = 300.0
"""By so much a clock may be behind the hub's without being wrong."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a version waits for: a code for programs, words for people, and when it is over if that is known.

    An empty `code` says that it may be activated now.
    """

    code: str = ""
    reason: str = ""
    until_s: int | None = None

    @property
    def over(self) -> bool:
        """May the version be activated now?"""
        return not self.code


def mode_of(assignment: Assignment) -> Mode:
    """What is to be done with the version."""
    return assignment.mode if isinstance(assignment.mode, str) else "live"


def window_of(assignment: Assignment, default: MaintenanceWindow | None) -> Window | MaintenanceWindow | None:
    """The window that counts: the assignment's own, else `default`."""
    return assignment.window if isinstance(assignment.window, Window) else default


def waiting(
    assignment: Assignment, window: Window | MaintenanceWindow | None, now_s: float, device_zone: tzinfo
) -> Waiting:
    """What the version of an assignment waits for at `now_s`, the device's clock; errors `schedule.*`."""
    mode = mode_of(assignment)
    if mode == "shadow":
        return Waiting("install.shadow", "It runs beside the version that serves and is not activated.")
    if mode == "hold":
        return Waiting("install.held", "It is held back until the hub says that it may be activated.")
    if window is None:
        return Waiting()
    # Imported here, because time zones take a megabyte that a device without windows does not spend.
    from shared.schedule import is_open, next_opening_s, parse_schedule, parse_zone

    schedule = parse_schedule(window.cron, window.duration_s)
    zone = device_zone if window.timezone == "device" else parse_zone(window.timezone)
    if now_s < assignment.issued_s - _SKEW_S:
        return Waiting("install.waits_for_clock", "It waits for the clock: the device's is behind the assignment.")
    if is_open(schedule, zone, int(now_s)):
        return Waiting()
    opens_s = next_opening_s(schedule, zone, int(now_s))
    return Waiting("install.waits_for_window", f"It waits for the window that opens at {_text(opens_s)}.", opens_s)


def _text(at_s: int) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidInput("schedule.cron", "The window opens at a time that is no date.") from error
