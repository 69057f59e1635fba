"""What a run would do, before anything happens: who could take part, who could not and why, and what goes over which
links. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.federated.definition import RunDefinition
from hub.federated.selection import OVER_SELECTION_PERCENT
from shared.limits import MIB

__all__ = ["Forecast", "LinkLoad", "Member", "Skipped", "forecast"]

_EXAMPLES_COUNT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A device that the filter chooses. code: why it could not take part now; empty: it could."""

    device_id: str
    profile: str
    link_class: str
    cost_per_mib: float
    samples: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLoad:
    """What goes over the links of one class in one round, when its share of the devices is asked.

    cost: by the profiles' `cost_per_mib`, in the fleet's own currency.
    """

    link_class: str
    devices: int
    asked: float
    bytes_down: int
    bytes_up: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A device that could not take part, and why."""

    device_id: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """devices, samples: of those who could take part. enough: they are a quorum. bytes: of one device in one round."""

    devices: int
    samples: int
    quorum: int
    enough: bool
    asked: int
    bytes_down: int
    bytes_up: int
    links: list[LinkLoad]
    skipped: dict[str, int]
    examples: list[Skipped]


def forecast(definition: RunDefinition, members: Sequence[Member], bytes_down: int, bytes_up: int) -> Forecast:
    """Count it. bytes_down, bytes_up: of one device in one round."""
    fit = [member for member in members if not member.code]
    asked = min(len(fit), -(-definition.rounds.goal * OVER_SELECTION_PERCENT // 100))
    skipped: dict[str, int] = {}
    for member in members:
        if member.code:
            skipped[member.code] = skipped.get(member.code, 0) + 1
    return Forecast(
        devices=len(fit),
        samples=sum(member.samples for member in fit),
        quorum=definition.quorum,
        enough=len(fit) >= definition.quorum,
        asked=asked,
        bytes_down=bytes_down,
        bytes_up=bytes_up,
        links=_links(fit, asked, bytes_down, bytes_up),
        skipped=dict(sorted(skipped.items())),
        examples=[Skipped(device_id=m.device_id, code=m.code) for m in members if m.code][:_EXAMPLES_COUNT],
    )


def _links(fit: Sequence[Member], asked: int, bytes_down: int, bytes_up: int) -> list[LinkLoad]:
    by_class: dict[str, list[Member]] = {}
    for member in fit:
        by_class.setdefault(member.link_class, []).append(member)
    return [_load(name, group, asked / len(fit), bytes_down, bytes_up) for name, group in sorted(by_class.items())]


def _load(name: str, group: Sequence[Member], share: float, bytes_down: int, bytes_up: int) -> LinkLoad:
    asked, cost = len(group) * share, sum(member.cost_per_mib for member in group) * share
    return LinkLoad(
        link_class=name,
        devices=len(group),
        asked=round(asked, 2),
        bytes_down=round(asked * bytes_down),
        bytes_up=round(asked * bytes_up),
        cost=round(cost * (bytes_down + bytes_up) / MIB, 6),
    )
