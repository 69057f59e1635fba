"""Latency in bounded logarithmic buckets, the same on the device and at the hub, so that counts add up exactly.

Buckets are 1/8 of an octave wide, so a percentile is at most 12 % above the true one. Only integers are kept; on the
wire and in the hub's tables only the buckets that hold something stand (`sparse`).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["BUCKETS_COUNT", "Sparse", "bucket", "percentile_us", "sparse", "upper_ns"]

_SUB_BITS = 3
_UNIT_BITS = 8  # the unit is 256 ns
BUCKETS_COUNT = 30 << _SUB_BITS
"""Up to about 275 s; what takes longer falls into the last."""

Sparse = list[tuple[int, int]]
"""Pairs of (bucket, count), without those that are empty."""


def bucket(ns: int) -> int:
    """The bucket that `ns` nanoseconds fall into."""
    units = ns >> _UNIT_BITS
    if units < 1 << _SUB_BITS:
        return units
    shift = units.bit_length() - _SUB_BITS - 1
    return min(((shift + 1) << _SUB_BITS) + (units >> shift) - (1 << _SUB_BITS), BUCKETS_COUNT - 1)


def upper_ns(number: int) -> int:
    """The upper edge of a bucket in nanoseconds."""
    if number < 1 << _SUB_BITS:
        return (number + 1) << _UNIT_BITS
    shift = (number >> _SUB_BITS) - 1
    return ((1 << _SUB_BITS) + (number & ((1 << _SUB_BITS) - 1)) + 1) << shift << _UNIT_BITS


def sparse(counts: Iterable[int]) -> Sparse:
    """The pairs of a full row of counts."""
    return [(number, count) for number, count in enumerate(counts) if count]


def percentile_us(pairs: Iterable[tuple[int, int]], percent: int) -> int:
    """The latency in microseconds that `percent` of the requests kept to (upper edge of its bucket); 0 if none."""
    held = sorted((number, count) for number, count in pairs if count)
    wanted, seen = -(-sum(count for _, count in held) * percent // 100), 0
    for number, count in held:
        seen += count
        if seen >= wanted:
            return max(1, upper_ns(number) // 1000)
    return 0
