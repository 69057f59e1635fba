"""Back-off and probation: values in, values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ota.backoff import Backoff, delay_s
from agent.ota.counters import MAX_KEYS, UNNAMED, highest_under, noted
from agent.ota.probation import Limits, Observed, VerdictKind, judge

POLICY = Backoff(base_s=2.0, cap_s=60.0)
LIMITS = Limits(bake_s=60.0, latency_p99_us=10_000, min_requests=20, max_error_percent=5, max_restarts=2)


@given(st.integers(min_value=-5, max_value=10_000), st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_wait_is_positive_and_never_over_the_cap(attempt: int, random: float) -> None:
    assert 0 < delay_s(POLICY, attempt, random) <= POLICY.cap_s


def test_waits_grow_and_are_spread() -> None:
    assert [delay_s(POLICY, attempt, 0.0) for attempt in (1, 2, 3, 99)] == [1.0, 2.0, 4.0, 30.0]
    assert delay_s(POLICY, 3, 0.5) == 6.0


def test_what_the_peer_asks_for_is_honoured_up_to_the_cap() -> None:
    assert delay_s(POLICY, 1, 0.0, at_least_s=17.0) == 17.0
    assert delay_s(POLICY, 1, 0.0, at_least_s=1e9) == POLICY.cap_s
    assert delay_s(POLICY, 1, 0.0, at_least_s=-3.0) == 1.0


@pytest.mark.parametrize(
    ("seen", "elapsed_s", "kind", "code"),
    [
        (Observed(0, 0, 0, 0), 0.0, VerdictKind.CONTINUE, ""),
        (Observed(0, 0, 0, 0), 60.0, VerdictKind.COMMIT, ""),
        (Observed(100, 5, 9_999, 0), 59.9, VerdictKind.CONTINUE, ""),
        (Observed(100, 5, 10_000, 2), 60.0, VerdictKind.COMMIT, ""),
        (Observed(100, 6, 100, 0), 1.0, VerdictKind.ROLL_BACK, "probation.errors"),
        (Observed(19, 19, 100, 0), 59.0, VerdictKind.CONTINUE, ""),
        (Observed(19, 19, 100, 0), 60.0, VerdictKind.ROLL_BACK, "probation.errors"),
        (Observed(20, 0, 10_001, 0), 1.0, VerdictKind.ROLL_BACK, "probation.too_slow"),
        (Observed(19, 0, 99_999, 0), 60.0, VerdictKind.COMMIT, ""),
        (Observed(0, 0, 0, 3), 0.0, VerdictKind.ROLL_BACK, "probation.crash_loop"),
    ],
)
def test_probation(seen: Observed, elapsed_s: float, kind: VerdictKind, code: str) -> None:
    verdict = judge(seen, elapsed_s, LIMITS)
    assert (verdict.kind, verdict.code) == (kind, code)
    assert bool(verdict.reason) == (kind is VerdictKind.ROLL_BACK)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 10**6), st.integers(0, 9), st.floats(0, 1e6))
def test_more_trouble_never_turns_a_rollback_into_a_commit(
    requests: int, errors: int, latency_us: int, restarts: int, elapsed_s: float
) -> None:
    errors = min(errors, requests)
    if judge(Observed(requests, errors, latency_us, restarts), elapsed_s, LIMITS).kind is VerdictKind.ROLL_BACK:
        worse = Observed(requests, requests, latency_us + 1, restarts + 1)
        assert judge(worse, elapsed_s, LIMITS).kind is VerdictKind.ROLL_BACK


def test_a_counter_counts_while_its_key_may_sign() -> None:
    counters = noted(noted({}, ["old"], 2**53 - 1), ["new"], 7)
    assert highest_under(counters, ["old", "new"]) == 2**53 - 1, "while keys overlap nothing is replayed"
    assert highest_under(counters, ["new"]) == 7, "what a removed key signed is forgotten"
    assert highest_under(counters, ["newer"]) == 0
    assert highest_under(counters, ["old"]) == 2**53 - 1, "and remembered if it is listed again"


def test_what_was_accepted_before_keys_were_noted_always_counts() -> None:
    counters = noted({UNNAMED: 5}, ["key"], 6)
    assert highest_under(counters, ["other"]) == 5
    assert highest_under(counters, ["key"]) == 6


def test_counters_never_fall_and_stay_few() -> None:
    counters = {UNNAMED: 1}
    for number in range(3 * MAX_KEYS):
        counters = noted(counters, [f"{number}"], 100 - number % 7)
    counters = noted(counters, [f"{3 * MAX_KEYS - 1}"], 1)
    assert len(counters) == MAX_KEYS + 1
    assert highest_under(counters, [f"{3 * MAX_KEYS - 1}"]) == 100 - (3 * MAX_KEYS - 1) % 7
