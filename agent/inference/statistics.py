"""Counts of one model version: requests, errors, and latency in bounded logarithmic buckets.

`rejected` are requests whose input was not acceptable; they are the caller's affair and appear nowhere else. Buckets
are 1/8 of an octave wide, so a percentile is at most 12 % above the true one. Only integers are kept.
"""

from __future__ import annotations

import msgspec

__all__ = ["Counters", "Statistics"]

_SUB_BITS = 3
_UNIT_BITS = 8  # the unit is 256 ns
_BUCKETS = 30 << _SUB_BITS  # up to about 275 s; what takes longer falls into the last


def _bucket(ns: int) -> int:
    units = ns >> _UNIT_BITS
    if units < 1 << _SUB_BITS:
        return units
    shift = units.bit_length() - _SUB_BITS - 1
    return min(((shift + 1) << _SUB_BITS) + (units >> shift) - (1 << _SUB_BITS), _BUCKETS - 1)


def _upper_ns(bucket: int) -> int:
    if bucket < 1 << _SUB_BITS:
        return (bucket + 1) << _UNIT_BITS
    shift = (bucket >> _SUB_BITS) - 1
    return ((1 << _SUB_BITS) + (bucket & ((1 << _SUB_BITS) - 1)) + 1) << shift << _UNIT_BITS


class Statistics(msgspec.Struct, frozen=True):
    """Counts at one moment, or between two (`after`)."""

    requests: int = 0
    errors: int = 0
    rejected: int = 0
    buckets: tuple[int, ...] = (0,) * _BUCKETS

    def __add__(self, other: Statistics) -> Statistics:
        return self._combine(other, 1)

    def after(self, earlier: Statistics) -> Statistics:
        """What happened since `earlier`."""
        return self._combine(earlier, -1)

    def _combine(self, other: Statistics, sign: int) -> Statistics:
        return Statistics(
            self.requests + sign * other.requests,
            self.errors + sign * other.errors,
            self.rejected + sign * other.rejected,
            tuple(a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)),
        )

    def latency_us(self, percent: int) -> int:
        """The latency in microseconds that `percent` of the requests kept to (upper edge of its bucket); 0 if none."""
        total = sum(self.buckets)
        wanted, seen = -(-total * percent // 100), 0
        for bucket, count in enumerate(self.buckets):
            seen += count
            if count and seen >= wanted:
                return max(1, _upper_ns(bucket) // 1000)
        return 0

    @property
    def latency_p50_us(self) -> int:
        """Median latency in microseconds."""
        return self.latency_us(50)

    @property
    def latency_p99_us(self) -> int:
        """99th percentile in microseconds."""
        return self.latency_us(99)


class Counters:
    """The counts that one version collects. Not thread-safe: written under the version's lock."""

    __slots__ = ("_buckets", "errors", "rejected", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.rejected = 0
        self._buckets = [0] * _BUCKETS

    def answered(self, ns: int) -> None:
        """One request answered after `ns` nanoseconds."""
        self.requests += 1
        self._buckets[_bucket(ns)] += 1

    def failed(self) -> None:
        """One request that the model could not answer."""
        self.requests += 1
        self.errors += 1

    def snapshot(self) -> Statistics:
        """The counts now."""
        return Statistics(self.requests, self.errors, self.rejected, tuple(self._buckets))
