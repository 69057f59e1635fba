"""Bytes that training moved, by class of link, and what they cost. Pure.

Counts come by firmware profile, because a device's link is its profile's; a profile that the hub does not know is told
apart (`unknown`) instead of being free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.limits import MIB
from shared.profiles import Link

__all__ = ["UNKNOWN", "LinkTraffic", "Moved", "by_link", "cost_of"]

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What the devices of one profile moved."""

    profile: str
    devices: int
    bytes_down: int
    bytes_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTraffic:
    """What went over one class of link. cost: in the fleet's own currency."""

    link: str
    devices: int
    bytes_down: int
    bytes_up: int
    cost: float

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.bytes_down + self.bytes_up


def by_link(moved: Iterable[Moved], links: Mapping[str, Link]) -> list[LinkTraffic]:
    """Traffic by class of link, in order. links: of each profile that is known."""
    found: dict[str, LinkTraffic] = {}
    for one in moved:
        link = links.get(one.profile)
        name = UNKNOWN if link is None else link.link_class
        before = found.get(name) or LinkTraffic(link=name, devices=0, bytes_down=0, bytes_up=0, cost=0.0)
        found[name] = LinkTraffic(
            link=name,
            devices=before.devices + one.devices,
            bytes_down=before.bytes_down + one.bytes_down,
            bytes_up=before.bytes_up + one.bytes_up,
            cost=before.cost + (0.0 if link is None else cost_of(one.bytes_down + one.bytes_up, link.cost_per_mib)),
        )
    return [found[name] for name in sorted(found)]


def cost_of(count: int, cost_per_mib: float) -> float:
    """What so many bytes cost."""
    return count / MIB * cost_per_mib
