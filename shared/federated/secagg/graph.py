"""Who masks with whom, and how many must remain. Pure: hub and devices compute the same from the same list.

Rules: up to 31 devices everybody is everybody's neighbour; from 32 on each device has the nearest on both sides of a
ring (Bell et al. 2020), about six times the logarithm of the number of devices, so that a round of many does not cost
its square. The order of the ring follows from the fresh keys of all devices together, so nobody can choose who is
whose neighbour before having seen the others' keys. More than two thirds of a neighbourhood must agree to reveal
anything: so nobody who is told two stories can be made to reveal both halves of a neighbour's secret, as long as fewer
than a third of that neighbourhood is in the same wrong hands.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

__all__ = ["MIN_DEVICES", "Ring", "peers_of", "threshold"]

MIN_DEVICES = 3
COMPLETE_BELOW = 32
_MIN_DEGREE = 30


def threshold(neighbourhood: int) -> int:
    """How many of a neighbourhood (the device itself included) must reveal: more than two thirds."""
    return 2 * neighbourhood // 3 + 1


class Ring:
    """The neighbours in a round of the devices `members`: for each id the SHA-256 of its advert."""

    def __init__(self, session: bytes, members: Mapping[str, bytes]) -> None:
        self.ids = sorted(members)
        self.points = {device_id: number for number, device_id in enumerate(self.ids, 1)}
        text = b"".join(hashlib.sha256(d.encode()).digest() + members[d] for d in self.ids)
        self.digest = hashlib.sha256(b"skerry secagg ring" + session + text).digest()
        count = len(self.ids)
        self._order = sorted(self.ids, key=lambda d: hashlib.sha256(self.digest + d.encode()).digest())
        self._place = {device_id: place for place, device_id in enumerate(self._order)}
        self._half = peers_of(count) // 2

    def neighbours(self, device_id: str) -> list[str]:
        """The neighbours of a device, sorted, without itself."""
        if len(self.ids) < COMPLETE_BELOW:
            return [other for other in self.ids if other != device_id]
        place, count = self._place[device_id], len(self.ids)
        steps = (step for step in range(-self._half, self._half + 1) if step)
        return sorted({self._order[(place + step) % count] for step in steps} - {device_id})

    def threshold(self, device_id: str) -> int:
        """How many of this device's neighbourhood, itself included, must reveal."""
        return threshold(len(self.neighbours(device_id)) + 1)


def peers_of(count: int) -> int:
    """How many neighbours each of so many devices has."""
    return max(0, count - 1) if count < COMPLETE_BELOW else 2 * (_degree(count) // 2)


def _degree(count: int) -> int:
    return min(count - 1, max(_MIN_DEGREE, 2 * math.ceil(3 * math.log2(count))))
