"""Gaussian noise for differential privacy, from a seed of 32 bytes. Pure: same seed, same noise.

Rules: whoever draws noise that shall protect somebody gives a seed of `secrets`, uses it once and forgets it; only
tests choose one. The normal numbers are made from 53-bit uniforms by Box and Muller; they end at 8.5 deviations. They
are rounded as double precision rounds, which the analysis of the Gaussian mechanism leaves out (Mironov 2012 shows
what an attacker who sees every last bit could make of that; weights leave the hub as float32, rounded after the
noise).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.federated.stream import stream

__all__ = ["gaussian"]

_HALF = 2.0**-53


def gaussian(seed: bytes, count: int, deviation: float) -> NDArray[np.float64]:
    """`count` independent normal numbers with mean 0 and this standard deviation."""
    if deviation < 0:
        raise ValueError("a standard deviation is not negative")
    pairs = -(-count // 2)
    words = stream(seed, 4 * pairs).view(np.uint64)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 1.0) * _HALF  # in (0, 1]
    radius = np.sqrt(-2.0 * np.log(uniform[:pairs]))
    angle = 2.0 * np.pi * uniform[pairs:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return np.asarray(deviation * normal[:count], np.float64)
