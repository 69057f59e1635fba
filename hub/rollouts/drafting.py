"""What a rollout would do, before anything happens: its waves, what goes over which links, who is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.deployments.compatibility import Compatibility
from hub.rollouts.cohort import threshold
from hub.rollouts.plan import Plan
from hub.store import deployments, rollout_members
from hub.store.database import Connection
from hub.store.deployments import Skip
from hub.store.rollout_members import Membership
from shared.limits import MIB

__all__ = ["Forecast", "LinkShare", "Wave", "forecast", "thresholds_for"]

_EXAMPLES_COUNT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """One group: how many devices, of which firmware profiles, and how many with all groups before it."""

    group_no: int
    name: str
    devices: int
    cumulative: int
    profiles: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkShare:
    """What goes over links of one class, at the most: devices that have a part of it already need less.

    cost: by the profiles' `cost_per_mib`, in the fleet's own currency.
    """

    link_class: str
    devices: int
    bytes: int
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a rollout does to whom. skipped: by reason, with some examples. outside: they fit, but no group has them."""

    devices: int
    waves: list[Wave]
    links: list[LinkShare]
    skipped: dict[str, int]
    examples: list[Skip]
    outside: int


def thresholds_for(
    connection: Connection, plan: Plan, membership: Membership, hash_a: int, hash_b: int
) -> list[int | None]:
    """Of each group, in order: the buckets below which devices belong to it or an earlier one; None: chosen otherwise.

    They never fall from one group to the next.
    """
    found: list[int | None] = []
    least = 0
    for group in plan.groups:
        if group.percent_bp is None:
            found.append(None)
            continue
        nth = _nth(connection, membership, hash_a, hash_b, group.min_devices)
        least = max(least, threshold(group.percent_bp, nth))
        found.append(least)
    return found


def _nth(connection: Connection, membership: Membership, hash_a: int, hash_b: int, wanted: int) -> int | None:
    """The bucket of the `wanted`-th device, or of the first where there are fewer: a group that nobody is in would
    wait for ever, and one that everybody is in would be no canary."""
    found = rollout_members.nth_bucket(connection, membership, hash_a, hash_b, wanted)
    return rollout_members.nth_bucket(connection, membership, hash_a, hash_b, 1) if found is None else found


def forecast(
    connection: Connection,
    plan: Plan,
    membership: Membership,
    hashes: tuple[int, int],
    thresholds: Sequence[int | None],
    compatibility: Compatibility,
    bundle_bytes: int,
) -> Forecast:
    """Count what would happen."""
    reason = deployments.skip_reason(plan.model, membership.unfit)
    skipped = deployments.skip_counts(connection, membership.targets, reason)
    fitting = skipped.pop("", 0)
    rows = rollout_members.preview(connection, membership, *hashes, thresholds)
    devices = sum(count for _, _, count in rows)
    examples = deployments.skip_examples(connection, membership.targets, reason, _EXAMPLES_COUNT) if skipped else []
    return Forecast(
        devices=devices,
        waves=_waves(plan, rows),
        links=_links(rows, compatibility, bundle_bytes),
        skipped=skipped,
        examples=examples,
        outside=fitting - devices,
    )


def _waves(plan: Plan, rows: Sequence[tuple[int, str, int]]) -> list[Wave]:
    waves: list[Wave] = []
    cumulative = 0
    for number, group in enumerate(plan.groups):
        profiles = {profile: count for group_no, profile, count in rows if group_no == number}
        count = sum(profiles.values())
        cumulative += count
        waves.append(Wave(group_no=number, name=group.name, devices=count, cumulative=cumulative, profiles=profiles))
    return waves


def _links(rows: Sequence[tuple[int, str, int]], compatibility: Compatibility, bundle_bytes: int) -> list[LinkShare]:
    found: dict[str, LinkShare] = {}
    for _, profile, count in rows:
        link = compatibility.profile(profile).link
        known = found.get(link.link_class, LinkShare(link_class=link.link_class, devices=0, bytes=0, cost=0.0))
        found[link.link_class] = LinkShare(
            link_class=link.link_class,
            devices=known.devices + count,
            bytes=known.bytes + count * bundle_bytes,
            cost=known.cost + count * bundle_bytes / MIB * link.cost_per_mib,
        )
    return [found[name] for name in sorted(found)]
