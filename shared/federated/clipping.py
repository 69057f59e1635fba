"""Bounding what one device can change: clipping to a norm, fixed, or following a quantile of the devices' norms. Pure.

Adaptive clipping is that of Andrew et al. 2021: each round tells, with noise, how many updates were within the bound,
and the bound moves geometrically until `QUANTILE` of them are. The count costs privacy too: the noise of the vector is
raised (`split`) so that both releases together cost exactly what one with the wanted multiplier would.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILE", "NoiseSplit", "clip", "next_clip", "split"]

Vector = NDArray[np.float32]
QUANTILE = 0.5
RATE = 0.2
_MIN_CLIP, _MAX_CLIP = 1e-6, 1e6
_BELOW = 1.0 - 2.0**-20  # float32 rounds each entry: the norm must not end above the bound for that


class NoiseSplit(msgspec.Struct, frozen=True, kw_only=True):
    """vector: the multiplier of the clip for the sum of updates. count: the deviation for the count within the clip."""

    vector: float
    count: float


def clip(difference: Vector, bound: float) -> tuple[Vector, bool]:
    """The difference, scaled down so that its Euclidean norm is at most `bound`, and whether it was within already."""
    if not bound > 0:
        raise ValueError("a clip is above 0")
    norm = float(np.linalg.norm(difference.astype(np.float64)))
    if norm <= bound:
        return difference, True
    return (difference.astype(np.float64) * (bound * _BELOW / norm)).astype(np.float32), False


def next_clip(bound: float, within: float, quantile: float = QUANTILE, rate: float = RATE) -> float:
    """The bound of the next round, when a (noisy) share `within` of the updates was within this one."""
    moved = bound * math.exp(-rate * (min(2.0, max(-1.0, within)) - quantile))
    return min(_MAX_CLIP, max(_MIN_CLIP, moved))


def split(multiplier: float, devices: int) -> NoiseSplit:
    """How the noise is divided between the sum and the count of `devices` when clipping is adaptive.

    A device changes the count, taken as ±1/2, by at most 1/2; so `vector**-2 + (2 * count)**-2 == multiplier**-2`. The
    count's deviation is a twentieth of the devices, as the paper has it, but never so small that it eats the budget.
    """
    if not multiplier > 0:
        raise ValueError("noise is shared out when there is any")
    count = max(devices / 20, multiplier)
    return NoiseSplit(vector=(multiplier**-2 - (2 * count) ** -2) ** -0.5, count=count)
