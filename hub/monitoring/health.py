"""How odd a device's own readings are among its peers: robust scores from median and MAD. Pure.

Rules: peers are the devices of the same profile; fewer than `LEAST_PEERS` say nothing. A reading scores how many robust
deviations it lies on the bad side of the median; half a deviation at the least is what the reading is measured to
(`_FLOOR`), so that a fleet that is all alike does not make a small difference large. A device's score is its worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

__all__ = ["LEAST_PEERS", "DeviceHealth", "rank"]

LEAST_PEERS = 5
_MAD = 1.4826
_FLOOR: Mapping[str, tuple[int, float]] = {
    "cpu_percent": (1, 5.0),
    "load_1m": (1, 0.5),
    "temperature_c": (1, 2.0),
    "memory_available_bytes": (-1, 16e6),
    "disk_free_bytes": (-1, 64e6),
    "restarts": (1, 1.0),
    "battery_percent": (-1, 5.0),
}
"""By reading: which side is bad, and the least deviation."""


class DeviceHealth(msgspec.Struct, frozen=True, kw_only=True):
    """score: robust deviations of the worst reading (`reading`), 0 without peers. readings: as the device told them."""

    device_id: str
    profile: str
    score: float
    reading: str
    readings: dict[str, Any]


def rank(devices: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[DeviceHealth]:
    """(device, profile, readings) with scores, the oddest first."""
    by_profile: dict[str, list[int]] = {}
    for place, (_, profile, _) in enumerate(devices):
        by_profile.setdefault(profile, []).append(place)
    worst = np.zeros(len(devices))
    named = [""] * len(devices)
    for places in by_profile.values():
        for reading, (side, floor) in _FLOOR.items():
            values = np.array([_number(devices[place][2].get(reading)) for place in places])
            known = ~np.isnan(values)
            if known.sum() < LEAST_PEERS:
                continue
            middle = float(np.median(values[known]))
            spread = max(_MAD * float(np.median(np.abs(values[known] - middle))), floor)
            for place, score in zip(places, side * (values - middle) / spread, strict=True):
                if score > worst[place]:  # false for NaN
                    worst[place], named[place] = score, reading
    found = [
        DeviceHealth(device_id=d, profile=p, score=float(worst[i]), reading=named[i], readings=dict(r))
        for i, (d, p, r) in enumerate(devices)
    ]
    return sorted(found, key=lambda one: (-one.score, one.device_id))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
