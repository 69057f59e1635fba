"""Offers to train that came down: few, the newest of each run, and only those for this device.

Rules: nothing of an offer is on the disk; one that is malformed or for another device is refused and counted; of a run
the last that came is the one that counts, whatever its round, because a run that was interrupted begins its round
again; one whose time is over is none. Offers come over MQTT only:
while the hub is reached over HTTPS there are none, because a device that cannot be told cannot be waited for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from shared.clock import Clock
from shared.errors import Untrusted
from shared.wire.training import TrainingOffer, decode_offer

__all__ = ["Arrived", "OfferIntake"]

_MOST_RUNS = 8


@dataclass(frozen=True, slots=True)
class Arrived:
    """An offer, and when it came (monotonic seconds)."""

    offer: TrainingOffer
    at_s: float

    def left_s(self, now_s: float) -> float:
        """How long it is still good; the device must have joined by then."""
        return self.offer.valid_s - (now_s - self.at_s)


class OfferIntake:
    """What waits for an answer, at most one of a run. For the event loop's thread."""

    def __init__(self, device_id: str, clock: Clock) -> None:
        self.came = asyncio.Event()
        """Set when something waits."""
        self.refused_count = 0
        """Offers that were malformed or for another device."""
        self.dropped_count = 0
        """Offers that a newer one replaced, that came too late, or for which there was no room."""
        self._device_id = device_id
        self._clock = clock
        self._waiting: OrderedDict[str, Arrived] = OrderedDict()

    def take(self, data: bytes) -> None:
        """An offer as it was received; errors `wire.too_large`, `wire.malformed`, `training.other_device`."""
        try:
            offer = decode_offer(data)
            if offer.device_id != self._device_id:
                raise Untrusted("training.other_device", f"The training offer is for {offer.device_id}.")
        except Exception:
            self.refused_count += 1
            raise
        self.dropped_count += offer.run in self._waiting
        self._waiting[offer.run] = Arrived(offer, self._clock.monotonic())
        self._waiting.move_to_end(offer.run)
        while len(self._waiting) > _MOST_RUNS:
            self._waiting.popitem(last=False)
            self.dropped_count += 1
        self.came.set()

    def next(self) -> Arrived | None:
        """The one that has waited longest, which waits no more; None: nothing waits."""
        now_s = self._clock.monotonic()
        while self._waiting:
            _, arrived = self._waiting.popitem(last=False)
            if arrived.left_s(now_s) > 0:
                return arrived
            self.dropped_count += 1
        self.came.clear()
        return None
