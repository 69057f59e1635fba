"""Which devices a percentage means: whole numbers only, so that SQL on both databases and this module agree exactly.

Each rollout has its own `a` and `b`; a device's bucket in it is `(hash31 * a + b) % MODULUS`, and a share of the fleet
is every bucket below a threshold. So raising a percentage only adds devices, a device that comes late falls where it
always would have, and two rollouts of the same fleet do not try everything on the same devices.
"""

from __future__ import annotations

from hub.store.hashing import MODULUS

__all__ = ["MODULUS", "WHOLE_BP", "bucket", "coefficients", "threshold"]

WHOLE_BP = 10_000
"""All devices, in basis points."""


def bucket(hash31: int, a: int, b: int) -> int:
    """The place of a device from 0 to MODULUS - 1."""
    return (hash31 * a + b) % MODULUS


def coefficients(random_a: int, random_b: int) -> tuple[int, int]:
    """`a` and `b` of a new rollout from two random numbers of at least 62 bits; a is never 0."""
    return 1 + random_a % (MODULUS - 1), random_b % MODULUS


def threshold(percent_bp: int, nth_bucket: int | None = None) -> int:
    """Buckets below this belong to the first `percent_bp` of the fleet.

    nth_bucket: the bucket of the `min_devices`-th device by bucket (of the first when there are fewer), or None when
    there is none; the share is raised until that device is in: one per cent of twenty devices would be nobody.
    """
    share = percent_bp * MODULUS // WHOLE_BP
    return share if nth_bucket is None else max(share, nth_bucket + 1)
