"""Percentages of a stable hash: raising one only adds devices, and every share is even."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rollouts.cohort import MODULUS, WHOLE_BP, bucket, coefficients, threshold
from hub.store.hashing import hash31

FACTORS = st.integers(0, 2**62).flatmap(lambda a: st.integers(0, 2**62).map(lambda b: coefficients(a, b)))
DEVICES = [hash31(f"device-{number:05d}") for number in range(20_000)]


@settings(deadline=None)
@given(factors=FACTORS, shares=st.lists(st.integers(0, WHOLE_BP), min_size=2, max_size=2).map(sorted))
def test_raising_a_percentage_only_adds_devices(factors: tuple[int, int], shares: list[int]) -> None:
    few, many = ({h for h in DEVICES[:500] if bucket(h, *factors) < threshold(share)} for share in shares)
    assert few <= many


@settings(deadline=None)
@given(factors=FACTORS, hash31=st.integers(0, MODULUS))
def test_every_device_is_in_the_whole_and_none_in_nothing(factors: tuple[int, int], hash31: int) -> None:
    assert threshold(0) <= bucket(hash31, *factors) < threshold(WHOLE_BP)


@settings(deadline=None)
@given(factors=FACTORS)
def test_buckets_of_different_hashes_differ_so_that_any_share_can_be_cut(factors: tuple[int, int]) -> None:
    a, _ = factors
    assert 1 <= a < MODULUS  # a prime modulus: the mapping is one to one
    buckets = {bucket(h, *factors) for h in range(1000)}
    assert len(buckets) == 1000


def test_shares_are_even() -> None:
    """Within five standard deviations of a fair draw, for several rollouts and shares of 20,000 devices."""
    for seed in range(20):
        factors = coefficients(0x9E3779B97F4A7C15 * (seed + 1), 0xC2B2AE3D27D4EB4F * (seed + 7))
        buckets = [bucket(h, *factors) for h in DEVICES]
        for share_bp in (10, 100, 1000, 5000, 9000):
            found = sum(b < threshold(share_bp) for b in buckets)
            expected = len(DEVICES) * share_bp / WHOLE_BP
            deviation = (expected * (1 - share_bp / WHOLE_BP)) ** 0.5
            assert abs(found - expected) <= 5 * deviation + 1


def test_two_rollouts_do_not_try_everything_on_the_same_devices() -> None:
    one, other = coefficients(12345678901234567890, 98765), coefficients(9876543210987654321, 1234)
    first = {h for h in DEVICES if bucket(h, *one) < threshold(1000)}
    second = {h for h in DEVICES if bucket(h, *other) < threshold(1000)}
    assert len(first & second) < len(first) // 4


def test_a_share_is_raised_until_so_many_devices_are_in() -> None:
    assert threshold(100) == MODULUS // 100
    assert threshold(100, nth_bucket=5) == MODULUS // 100
    assert threshold(100, nth_bucket=MODULUS // 2) == MODULUS // 2 + 1
    assert threshold(100, nth_bucket=None) == MODULUS // 100
    assert threshold(WHOLE_BP, nth_bucket=MODULUS - 1) == MODULUS


def test_a_bucket_is_what_the_database_computes() -> None:
    assert bucket(5, 3, 7) == 22
    assert bucket(MODULUS - 1, MODULUS - 1, 1) == 2
    assert bucket(2**31 - 1, 12345, 678) == 678


def test_products_fit_into_the_integers_of_a_database() -> None:
    assert (MODULUS - 1) * MODULUS + MODULUS < 2**63
