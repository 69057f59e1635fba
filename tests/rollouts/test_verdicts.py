"""Gates: what passes, what fails and what is not known yet; and the tests behind the comparison with control."""

from __future__ import annotations

from fractions import Fraction
from math import comb, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.gates.metrics import wilson
from hub.rollouts.gates import judge_gate, overall
from hub.rollouts.metrics import METRICS, Kind
from hub.rollouts.plan import Compare, Gate, Operator
from hub.rollouts.significance import PPM, Stratum, is_above, is_worse, is_worse_by, standardised
from hub.rollouts.state import Evidence, Measure, Verdict
from tests.rollouts.fleet import share

ERRORS = Gate(metric="error_rate", operator=Operator.AT_MOST, threshold_ppm=50_000, min_sample=100)
INSTALLS = Gate(metric="install_success", operator=Operator.AT_LEAST, threshold_ppm=950_000, min_sample=20)
DRIFT = Gate(metric="drift_score", operator=Operator.AT_MOST, threshold_ppm=200_000, min_sample=1000)
CONTROLLED = Gate(
    metric="error_rate",
    operator=Operator.AT_MOST,
    threshold_ppm=10_000,
    compare=Compare.CONTROL,
    fallback_ppm=50_000,
    min_sample=100,
)


def verdict(gate: Gate, candidate: Measure, control: Measure | None = None) -> Verdict:
    evidence = Evidence(gate_no=0, candidate=candidate, control=control)
    return overall(judge_gate(0, gate, [evidence])).verdict


# --- against a constant ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("events", "n", "expected"),
    [
        (5, 100, Verdict.PASS),
        (6, 100, Verdict.FAIL),
        (0, 99, Verdict.INCONCLUSIVE),
        (5, 99, Verdict.INCONCLUSIVE),
        (0, 0, Verdict.INCONCLUSIVE),
        (10, 10, Verdict.FAIL),
        (1, 1, Verdict.INCONCLUSIVE),
        (60, 99, Verdict.FAIL),
        (500_000, 10_000_000, Verdict.PASS),
        (500_001, 10_000_000, Verdict.FAIL),
    ],
)
def test_a_share_against_a_constant(events: int, n: int, expected: Verdict) -> None:
    assert verdict(ERRORS, share(events, n)) is expected


@pytest.mark.parametrize(
    ("succeeded", "n", "expected"),
    [(19, 20, Verdict.PASS), (18, 20, Verdict.FAIL), (19, 19, Verdict.INCONCLUSIVE), (0, 6, Verdict.FAIL)],
)
def test_a_share_that_should_be_great(succeeded: int, n: int, expected: Verdict) -> None:
    assert verdict(INSTALLS, share(succeeded, n)) is expected


def test_without_evidence_nothing_passes() -> None:
    assert overall(judge_gate(3, ERRORS, [])).verdict is Verdict.INCONCLUSIVE


def test_impossible_numbers_decide_nothing() -> None:
    assert verdict(ERRORS, Measure(numerator=0, denominator=-5, n=-5)) is Verdict.INCONCLUSIVE
    assert verdict(ERRORS, share(300, 200)) is Verdict.FAIL  # more crashes than reports: all of them


def test_a_metric_that_nobody_measures_decides_nothing() -> None:
    gate = Gate(metric="nonsense", operator=Operator.AT_MOST, threshold_ppm=1)
    assert verdict(gate, share(0, 10**6)) is Verdict.INCONCLUSIVE


def test_values_are_compared_from_their_minimum_sample() -> None:
    def drift(millionths: int, n: int) -> Measure:
        return Measure(numerator=millionths, denominator=PPM, n=n)

    assert verdict(DRIFT, drift(200_000, 1000)) is Verdict.PASS
    assert verdict(DRIFT, drift(200_001, 1000)) is Verdict.FAIL
    assert verdict(DRIFT, drift(900_000, 999)) is Verdict.INCONCLUSIVE
    accuracy = Gate(metric="estimated_accuracy", operator=Operator.AT_LEAST, threshold_ppm=900_000, min_sample=10)
    assert verdict(accuracy, drift(899_999, 10)) is Verdict.FAIL
    assert verdict(accuracy, drift(900_000, 10)) is Verdict.PASS


# --- against control -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("candidate", "control", "expected"),
    [
        (share(200, 10_000), share(200, 10_000), Verdict.PASS),
        (share(300, 10_000), share(200, 10_000), Verdict.PASS),  # exactly one point worse
        (share(500, 10_000), share(200, 10_000), Verdict.FAIL),
        (share(5, 100), share(2, 100), Verdict.INCONCLUSIVE),  # worse, but perhaps by chance
        (share(4, 100), share(0, 1_000_000), Verdict.FAIL),
        (share(900, 10_000), share(800, 10_000), Verdict.PASS),  # bad on all versions: not the fault of this one
        (share(4, 100), share(0, 5), Verdict.PASS),  # too few control samples: the fallback limit counts
        (share(6, 100), share(0, 5), Verdict.FAIL),
        (share(4, 100), None, Verdict.PASS),
        (share(0, 99), share(0, 10_000), Verdict.INCONCLUSIVE),
    ],
)
def test_a_share_against_control(candidate: Measure, control: Measure | None, expected: Verdict) -> None:
    assert verdict(CONTROLLED, candidate, control) is expected


def test_a_control_gate_without_a_fallback_decides_nothing_without_control() -> None:
    gate = Gate(
        metric="error_rate", operator=Operator.AT_MOST, threshold_ppm=10_000, compare=Compare.CONTROL, min_sample=100
    )
    assert verdict(gate, share(0, 1000)) is Verdict.INCONCLUSIVE


def test_values_against_control() -> None:
    gate = Gate(
        metric="estimated_accuracy",
        operator=Operator.AT_LEAST,
        threshold_ppm=20_000,
        compare=Compare.CONTROL,
        fallback_ppm=800_000,
        min_sample=10,
    )

    def accuracy(millionths: int, n: int = 50) -> Measure:
        return Measure(numerator=millionths, denominator=PPM, n=n)

    assert verdict(gate, accuracy(900_000), accuracy(920_000)) is Verdict.PASS
    assert verdict(gate, accuracy(899_999), accuracy(920_000)) is Verdict.FAIL
    assert verdict(gate, accuracy(850_000), accuracy(990_000, n=9)) is Verdict.PASS
    assert verdict(gate, accuracy(790_000)) is Verdict.FAIL


# --- profiles --------------------------------------------------------------------------------------------------------
def test_one_failing_profile_fails_the_gate_and_is_named() -> None:
    rows = [
        Evidence(gate_no=0, candidate=share(40, 10_000)),
        Evidence(gate_no=0, profile="jetson", candidate=share(40, 200)),
        Evidence(gate_no=0, profile="pi", candidate=share(0, 9800)),
    ]
    results = judge_gate(0, ERRORS, rows)
    assert [(r.profile, r.verdict) for r in results] == [
        ("", Verdict.PASS),
        ("jetson", Verdict.FAIL),
        ("pi", Verdict.PASS),
    ]
    decisive = overall(results)
    assert decisive.profile == "jetson"
    assert decisive.reason.numbers["numerator"] == 40
    assert "error_rate on jetson: 20 % (40 of 200) is not <= 5 %." in decisive.reason.message


def test_a_profile_with_too_few_samples_decides_nothing() -> None:
    rows = [
        Evidence(gate_no=0, candidate=share(4, 10_000)),
        Evidence(gate_no=0, profile="rare", candidate=share(2, 9)),
    ]
    assert overall(judge_gate(0, ERRORS, rows)).verdict is Verdict.PASS


def test_profiles_can_be_left_out() -> None:
    gate = Gate(metric="error_rate", operator=Operator.AT_MOST, threshold_ppm=50_000, per_profile=False)
    rows = [
        Evidence(gate_no=0, candidate=share(4, 10_000)),
        Evidence(gate_no=0, profile="jetson", candidate=share(200, 200)),
    ]
    assert overall(judge_gate(0, gate, rows)).verdict is Verdict.PASS


def test_evidence_of_other_gates_is_not_looked_at() -> None:
    assert overall(judge_gate(0, ERRORS, [Evidence(gate_no=1, candidate=share(0, 10_000))])).verdict is (
        Verdict.INCONCLUSIVE
    )


def test_every_metric_has_a_verdict() -> None:
    for metric in METRICS.values():
        gate = Gate(metric=metric.name, operator=metric.good, threshold_ppm=500_000, min_sample=10)
        fine = share(0 if metric.good is Operator.AT_MOST else 100, 100)
        bad = share(100 - fine.numerator, 100)
        assert verdict(gate, fine) is Verdict.PASS
        assert verdict(gate, bad) is Verdict.FAIL
        assert metric.kind in Kind


# --- the arithmetic behind -------------------------------------------------------------------------------------------
def tail(events: int, n: int, limit: Fraction) -> Fraction:
    """The exact probability of at least so many events."""
    return sum((comb(n, k) * limit**k * (1 - limit) ** (n - k) for k in range(events, n + 1)), start=Fraction(0))


@settings(deadline=None)
@given(n=st.integers(1, 60), events=st.integers(1, 60), limit_ppm=st.integers(0, 400_000))
def test_few_events_are_called_above_only_when_chance_is_below_one_in_two_thousand(
    n: int, events: int, limit_ppm: int
) -> None:
    events = min(events, n, 40)
    if is_above(events, n, limit_ppm):
        assert tail(events, n, Fraction(limit_ppm, PPM)) <= Fraction(1, 2000)


@settings(deadline=None)
@given(n=st.integers(100, 10**7), limit_ppm=st.integers(1, 999_999), events=st.integers(41, 10**7))
def test_many_events_are_called_above_exactly_when_wilsons_bound_is(n: int, limit_ppm: int, events: int) -> None:
    events = min(events, n)
    if events <= 40:
        return
    low, _ = wilson(events, n, z=3.3)
    gap = low - limit_ppm / PPM
    if abs(gap) > 1e-9:
        assert is_above(events, n, limit_ppm) == (gap > 0)


@settings(deadline=None)
@given(n=st.integers(1, 10**6), m=st.integers(1, 10**6), x=st.integers(0, 10**6), y=st.integers(0, 10**6))
def test_worse_than_control_is_the_two_proportion_test(n: int, m: int, x: int, y: int) -> None:
    x, y = min(x, n), min(y, m)
    pooled = (x + y) / (n + m)
    variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    if variance == 0:
        assert not is_worse([Stratum(x, n, y, m)])
        return
    z = (x / n - y / m) / sqrt(variance)
    if abs(z - 3.3) > 1e-6:
        assert is_worse([Stratum(x, n, y, m)]) == (z > 3.3)
    assert not (is_worse([Stratum(x, n, y, m)]) and is_worse([Stratum(y, m, x, n)]))


@settings(deadline=None)
@given(
    n=st.integers(1, 10**5),
    m=st.integers(1, 10**5),
    x=st.integers(0, 10**5),
    y=st.integers(0, 10**5),
    threshold_ppm=st.integers(0, PPM),
)
def test_with_one_stratum_the_difference_is_that_of_the_shares(
    n: int, m: int, x: int, y: int, threshold_ppm: int
) -> None:
    x, y = min(x, n), min(y, m)
    strata = [Stratum(x, n, y, m)]
    assert is_worse_by(strata, threshold_ppm) == (Fraction(x, n) - Fraction(y, m) > Fraction(threshold_ppm, PPM))
    assert standardised(strata) == Fraction(y, m)


def test_a_wave_with_another_mix_of_profiles_than_its_control_is_compared_like_with_like() -> None:
    """The canary is mostly of the profile that always errs more: alike on each profile, worse in the sum."""
    rows = [
        Evidence(gate_no=0, candidate=share(910, 10_000), control=share(190, 10_000)),
        Evidence(gate_no=0, profile="old", candidate=share(900, 9000), control=share(100, 1000)),
        Evidence(gate_no=0, profile="new", candidate=share(10, 1000), control=share(90, 9000)),
    ]
    assert overall(judge_gate(0, CONTROLLED, rows)).verdict is Verdict.PASS
    assert verdict(CONTROLLED, share(910, 10_000), share(190, 10_000)) is Verdict.FAIL


def test_a_small_rise_on_every_profile_adds_up() -> None:
    rows = [Evidence(gate_no=0, candidate=share(800, 20_000), control=share(480, 20_000))]
    rows += [
        Evidence(gate_no=0, profile=f"p{no}", candidate=share(40, 1000), control=share(24, 1000)) for no in range(20)
    ]
    results = judge_gate(0, CONTROLLED, rows)
    assert {result.verdict for result in results[1:]} == {Verdict.INCONCLUSIVE}
    assert results[0].verdict is Verdict.FAIL


def test_equal_shares_are_rarely_called_worse() -> None:
    """Of all outcomes of two samples of 60 at the same 30 %, less than one in a thousand is called worse."""
    n, p = 60, 0.3
    chance = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    wrong = sum(chance[x] * chance[y] for x in range(n + 1) for y in range(n + 1) if is_worse([Stratum(x, n, y, n)]))
    assert wrong < 0.001
