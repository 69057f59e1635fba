"""Latency buckets are bounded, add up, and give percentiles that are close and never too low."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.inference.statistics import Counters, Statistics


def counted(times_ns: list[int]) -> Statistics:
    counters = Counters()
    for ns in times_ns:
        counters.answered(ns)
    return counters.snapshot()


@given(st.lists(st.integers(0, 100_000_000_000), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_at_most_an_eighth_above_the_true_one(times_ns: list[int], percent: int) -> None:
    true = sorted(times_ns)[-(-len(times_ns) * percent // 100) - 1]
    found = counted(times_ns).latency_us(percent)
    assert found >= true // 1000
    assert found <= true * 1.126 / 1000 + 1


@given(st.integers(0, 2**80))
def test_any_time_falls_into_a_bucket(ns: int) -> None:
    found = counted([ns])
    assert sum(found.buckets) == found.requests == 1


def test_no_requests_have_no_latency() -> None:
    assert Statistics().latency_p50_us == Statistics().latency_p99_us == 0


def test_differences_and_sums_are_exact() -> None:
    first, both = counted([1_000, 5_000_000]), counted([1_000, 5_000_000, 70_000])
    assert both.after(first) == counted([70_000])
    assert first + counted([70_000]) == both


def test_failures_count_as_requests_without_a_latency() -> None:
    counters = Counters()
    counters.failed()
    found = counters.snapshot()
    assert (found.requests, found.errors, sum(found.buckets)) == (1, 1, 0)
