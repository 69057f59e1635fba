"""The rate's credit and engine time: exact over any steps, bounded after any gap, harmless under any clock."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.rollouts.clockwork import MAX_STEP_S, advance
from hub.rollouts.plan import Rate, Retry
from hub.rollouts.rate import UNITS, credit_after, per_minute
from hub.rollouts.state import EngineClock
from hub.rollouts.supersession import outranks
from hub.rollouts.timing import MAX_BACKOFF_S, backoff_s

CREATED_S = 1_800_000_000


def test_a_constant_rate_is_constant() -> None:
    rate = Rate(base=50, cap=50)
    assert {per_minute(rate, n, n) for n in (0, 1, 49, 10**9)} == {50}


def test_a_growing_rate_grows_with_what_it_counts_and_stops_at_its_cap() -> None:
    rate = Rate(base=50, factor_percent=150, every=100, cap=1000)
    assert [per_minute(rate, n, 0) for n in (0, 99, 100, 200, 300, 10**9)] == [50, 50, 75, 112, 168, 1000]
    by_success = Rate(base=50, factor_percent=200, every=100, cap=1000, on_success=True)
    assert [per_minute(by_success, 10**6, n) for n in (0, 100, 500)] == [50, 100, 1000]


@settings(deadline=None)
@given(
    base=st.integers(1, 10**6),
    factor=st.integers(100, 10_000),
    every=st.integers(1, 10**6),
    cap=st.integers(1, 10**7),
    counts=st.lists(st.integers(0, 10**9), min_size=2, max_size=2).map(sorted),
)
def test_a_rate_never_falls_and_never_passes_its_cap(
    base: int, factor: int, every: int, cap: int, counts: list[int]
) -> None:
    rate = Rate(base=min(base, cap), factor_percent=factor, every=every, cap=cap)
    slow, fast = (per_minute(rate, count, 0) for count in counts)
    assert rate.base <= slow <= fast <= cap


@settings(deadline=None)
@given(devices=st.integers(1, 100_000), steps=st.lists(st.integers(0, MAX_STEP_S), max_size=50))
def test_over_any_steps_exactly_the_rate_is_given(devices: int, steps: list[int]) -> None:
    credit = given_devices = 0
    for step in steps:
        credit = credit_after(credit, devices, step)
        given_devices, credit = given_devices + credit // UNITS, credit % UNITS
    most = devices * sum(steps) // UNITS
    if all(step <= UNITS for step in steps):
        assert most - 1 <= given_devices <= most
    else:
        assert given_devices <= most


@settings(deadline=None)
@given(devices=st.integers(1, 100_000), gap_s=st.integers(0, 10**9))
def test_a_gap_leaves_at_most_one_minute_of_credit(devices: int, gap_s: int) -> None:
    assert credit_after(0, devices, gap_s) <= devices * UNITS


@settings(deadline=None)
@given(times=st.lists(st.integers(0, 2 * CREATED_S), max_size=30))
def test_engine_time_never_goes_back_and_jumps_add_nothing(times: list[int]) -> None:
    clock = EngineClock()
    for now_s in times:
        step = advance(clock, now_s, CREATED_S)
        assert step.clock.elapsed_s == clock.elapsed_s + step.elapsed_s
        assert 0 <= step.elapsed_s <= MAX_STEP_S
        assert step.steady or step.elapsed_s == 0
        assert step.sane == (now_s >= CREATED_S - 300)
        clock = step.clock


def test_ordinary_ticks_add_up() -> None:
    clock = EngineClock()
    for second in range(0, 600, 5):
        clock = advance(clock, CREATED_S + second, CREATED_S).clock
    assert clock.elapsed_s == 595


def test_back_off_doubles_up_to_a_week() -> None:
    retry = Retry(attempts=9, backoff_s=900)
    assert [backoff_s(retry, attempts) for attempts in (0, 1, 2, 3)] == [900, 900, 1800, 3600]
    assert backoff_s(retry, 10**6) == MAX_BACKOFF_S


def test_priority_goes_before_age() -> None:
    assert outranks(1, 100.0, 0, 200.0)
    assert not outranks(0, 200.0, 1, 100.0)
    assert outranks(0, 200.0, 0, 100.0)
    assert not outranks(0, 100.0, 0, 100.0)
