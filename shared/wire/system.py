"""How the machine under the agent does; a part of the heartbeat. What a machine cannot say is null.

Older agents leave it out, and older hubs ignore it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared import limits
from shared.wire.types import Count, Word

__all__ = ["System"]

Percent = Annotated[float, Meta(ge=0, le=100)]


class System(msgspec.Struct, frozen=True, kw_only=True):
    """cpu_percent: of the whole machine, since the last heartbeat. temperature_c: of the hottest sensor. uptime_s: of
    the machine. restarts: how often this agent has started before. clock_synchronised: what the system says.
    battery_percent, on_battery: where there is one.

    Since the last heartbeat, and left out by older agents: link: `mqtt`, `https`, or `none` (the hub was not reached).
    link_rtt_s: the shortest time from sending a message to the hub's confirmation. link_reconnects: how often the
    connection to the broker had to be made again. clock_ahead_s: of the hub's clock, right to half of that time.
    """

    cpu_percent: Percent | None = None
    load_1m: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    temperature_c: Annotated[float, Meta(ge=-273.15, le=1000)] | None = None
    memory_available_bytes: Count | None = None
    disk_total_bytes: Count | None = None
    uptime_s: Count | None = None
    restarts: Count | None = None
    clock_synchronised: bool | None = None
    battery_percent: Percent | None = None
    on_battery: bool | None = None
    link: Word | UnsetType = UNSET
    link_rtt_s: Annotated[float, Meta(ge=0, le=limits.MAX_CLOCK_S)] | UnsetType = UNSET
    link_reconnects: Count | UnsetType = UNSET
    clock_ahead_s: Annotated[float, Meta(ge=-limits.MAX_CLOCK_S, le=limits.MAX_CLOCK_S)] | UnsetType = UNSET
