"""A device's place in every wave: a number that follows from its id alone, so that it is never drawn again.

A rollout turns it into a bucket of its own by `(hash31 * a + b) % MODULUS`, which SQL computes in 64-bit integers: the
largest product is below 2^62.
"""

from __future__ import annotations

import hashlib

__all__ = ["MODULUS", "hash31"]

MODULUS = 2**31 - 1


def hash31(device_id: str) -> int:
    """The first 31 bits of the SHA-256 of a device's id."""
    return int.from_bytes(hashlib.sha256(device_id.encode()).digest()[:4], "big") >> 1
