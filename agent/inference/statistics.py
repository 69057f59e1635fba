"""Counts of one model version: requests, errors, and latency in bounded logarithmic buckets (`shared.latency`).

`rejected` are requests whose input was not acceptable; they are the caller's affair and appear nowhere else.
`over_budget` are answers that took longer than the device's latency budget. Only integers are kept.
"""

from __future__ import annotations

import msgspec

from shared.latency import BUCKETS_COUNT, bucket, percentile_us

__all__ = ["Counters", "Statistics"]

class Statistics(msgspec.Struct, frozen=True):
    """Counts at one moment, or between two (`after`)."""

    requests: int = 0
    errors: int = 0
    rejected: int = 0
    over_budget: int = 0
    buckets: tuple[int, ...] = (0,) * BUCKETS_COUNT

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
            self.over_budget + sign * other.over_budget,
            tuple(a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)),
        )

    def latency_us(self, percent: int) -> int:
        """The latency in microseconds that `percent` of the requests kept to (upper edge of its bucket); 0 if none."""
        return percentile_us(enumerate(self.buckets), percent)

    @property
    def latency_p50_us(self) -> int:
        """Median latency in microseconds."""
        return self.latency_us(50)

    @property
    def latency_p99_us(self) -> int:
        """99th percentile in microseconds."""
        return self.latency_us(99)


class Counters:
    """The counts that one version collects. Not thread-safe: written under the version's lock.

    budget_ns: what a prediction may take by the device's profile; 0: there is no budget.
    """

    __slots__ = ("_buckets", "_budget_ns", "errors", "over_budget", "rejected", "requests")

    def __init__(self, budget_ns: int = 0) -> None:
        self.requests = 0
        self.errors = 0
        self.rejected = 0
        self.over_budget = 0
        self._budget_ns = budget_ns
        self._buckets = [0] * BUCKETS_COUNT

    def answered(self, ns: int) -> None:
        """One request answered after `ns` nanoseconds."""
        self.requests += 1
        self._buckets[bucket(ns)] += 1
        if 0 < self._budget_ns < ns:
            self.over_budget += 1

    def failed(self) -> None:
        """One request that the model could not answer."""
        self.requests += 1
        self.errors += 1

    def snapshot(self) -> Statistics:
        """The counts now."""
        return Statistics(self.requests, self.errors, self.rejected, self.over_budget, tuple(self._buckets))
