"""How each device has done in a run: asked, answered, dropped out, refused, and the bytes it moved.

Rules: refusals count in a row, so one good answer ends them; who reaches the bound of `hub.federated.selection` is on
quarantine for the rest of the run; counts are part of the checkpoint, so a restart forgives nobody and blames nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from hub.federated.report import GroupTraffic
from hub.federated.selection import Candidate
from shared import limits

__all__ = ["Roster", "Standing"]


class Standing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One device. rejected: refused answers in a row; refused: all of them. Bytes are those of weights and updates.

    group: its profile, and cost_per_mib that of its link, also when it has left.
    """

    device_id: str
    group: str = ""
    cost_per_mib: float = 0.0
    asked: int = 0
    answered: int = 0
    dropped: int = 0
    declined: int = 0
    rejected: int = 0
    refused: int = 0
    bytes_down: int = 0
    bytes_up: int = 0


class _Member:
    __slots__ = ("group", "node_id", "samples")

    def __init__(self, node_id: int, samples: int, group: str) -> None:
        self.node_id = node_id
        self.samples = samples
        self.group = group


class Roster:
    """The devices of a run. Those that left (were revoked) keep their standing and are not candidates."""

    def __init__(self, standings: Iterable[Standing] = ()) -> None:
        self._standings = {s.device_id: msgspec.structs.replace(s) for s in standings}
        self._members: dict[str, _Member] = {}

    def enrol(
        self, device_id: str, node_id: int, samples: int, group: str = "", cost_per_mib: float = 0.0
    ) -> None:
        """A device may take part from now on; again changes what is known of it."""
        self._members[device_id] = _Member(node_id, samples, group)
        standing = self.of(device_id)
        standing.group, standing.cost_per_mib = group, cost_per_mib

    def remove(self, device_id: str) -> None:
        """The device may not take part any more; harmless when it never could."""
        self._members.pop(device_id, None)

    def of(self, device_id: str) -> Standing:
        """The standing of a device, to be changed in place."""
        return self._standings.setdefault(device_id, Standing(device_id=device_id))

    def node(self, device_id: str) -> int | None:
        """Its node in the federation; None when it is not in it."""
        member = self._members.get(device_id)
        return None if member is None else member.node_id

    def candidates(self) -> list[Candidate]:
        """Who could be asked, as `hub.federated.selection` wants it."""
        return [
            Candidate(
                device_id=device_id,
                samples=member.samples,
                group=member.group,
                asked=self.of(device_id).asked,
                dropped=self.of(device_id).dropped,
                rejected=self.of(device_id).rejected,
            )
            for device_id, member in self._members.items()
        ]

    def all(self) -> Collection[Standing]:
        """The standings themselves, also of devices that have left."""
        return self._standings.values()

    def traffic(self) -> list[GroupTraffic]:
        """What each group has moved in the whole run, by group; those that have moved nothing are left out."""
        found: dict[str, GroupTraffic] = {}
        for one in self._standings.values():
            if one.bytes_down or one.bytes_up:
                sums = found.setdefault(one.group, GroupTraffic(group=one.group))
                sums.devices += 1
                sums.bytes_down += one.bytes_down
                sums.bytes_up += one.bytes_up
        return [found[group] for group in sorted(found)]

    def standings(self) -> list[Standing]:
        """A copy of the standings that say anything, by device: as many as a checkpoint can hold.

        When more devices have come and gone than that, those that left and are not on their way to quarantine are
        forgotten first; they begin anew should they come again.
        """
        told = [one for one in self._standings.values() if _says(one)]
        if len(told) > limits.MAX_FEDERATED_DEVICES_COUNT:
            told.sort(key=lambda one: (one.device_id not in self._members, not one.rejected, one.device_id))
            told = told[: limits.MAX_FEDERATED_DEVICES_COUNT]
        return [msgspec.structs.replace(one) for one in sorted(told, key=lambda one: one.device_id)]


def _says(one: Standing) -> bool:
    """Whether the device has done anything yet."""
    return one != Standing(device_id=one.device_id, group=one.group, cost_per_mib=one.cost_per_mib)
