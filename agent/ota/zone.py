"""The device's own time zone, as the system has it; UTC where it says none."""

from __future__ import annotations

from datetime import UTC, tzinfo
from pathlib import Path

__all__ = ["device_zone"]

_LOCALTIME = Path("/etc/localtime")


def device_zone(localtime: Path = _LOCALTIME) -> tzinfo:
    """The zone in /etc/localtime (localtime(5)); read anew at each call, because a person may change it."""
    from zoneinfo import ZoneInfo  # see `agent.ota.waiting`

    try:
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
