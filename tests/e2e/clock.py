"""Processes whose wall clock is ahead; certificates, waiting and timeouts go on as they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

__all__ = ["clock_ahead", "next_change_s", "opening_at_two_s"]

_AHEAD = Path(__file__).parent / "ahead"


def clock_ahead(seconds: float) -> dict[str, str]:
    """The environment of a Python process whose clock is so far ahead, and of its children."""
    return {"PYTHONPATH": str(_AHEAD), "SKERRY_TEST_AHEAD_S": str(seconds)}


def next_change_s(zone: str, after_s: float) -> float:
    """When the clocks of a zone change next."""
    place = ZoneInfo(zone)
    hour = datetime.fromtimestamp(after_s // 3600 * 3600, UTC)
    before = hour.astimezone(place).utcoffset()
    while hour.astimezone(place).utcoffset() == before:
        hour += timedelta(hours=1)
    return hour.timestamp()


def opening_at_two_s(zone: str, change_s: float) -> float:
    """When a window that opens daily at 02:00 does so in the night of a change: where 02:00 does not exist, at the
    change; where it comes twice, the first time."""
    place = ZoneInfo(zone)
    local = datetime.fromtimestamp(change_s - 1, place).replace(hour=2, minute=0, second=0, microsecond=0, fold=0)
    return local.timestamp()
