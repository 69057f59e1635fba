"""Policies and verdicts: what is unknown, missing or not a number fails, and says why."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.gates.policy import METRICS, Policy, default_policy, parse_policy
from hub.gates.verdict import CheckResult, judge
from shared.errors import InvalidInput

ACCURACY = {"metric": "accuracy", "op": ">=", "value": 0.9}
RELATIVE = {"metric": "accuracy", "op": ">=", "relative_to": "production", "tolerance": 0.01}


def policy(*checks: dict[str, Any], **more: Any) -> Policy:
    return parse_policy({"checks": list(checks), "min_samples": 10, **more})


def verdict(wanted: Policy, values: dict[str, float], production: dict[str, float] | None = None) -> list[CheckResult]:
    return judge(wanted, {"samples": 100.0, **values}, production)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"checks": []},
        {"checks": [{}]},
        {"checks": [{"metric": "accuracy", "op": ">="}]},
        {"checks": [{**ACCURACY, "relative_to": "production"}]},
        {"checks": [{**ACCURACY, "op": "=="}]},
        {"checks": [{**ACCURACY, "value": "0.9"}]},
        {"checks": [{**ACCURACY, "value": math.nan}]},
        {"checks": [{**ACCURACY, "value": math.inf}]},
        {"checks": [{**RELATIVE, "relative_to": "canary"}]},
        {"checks": [{**RELATIVE, "tolerance": -1}]},
        {"checks": [{**RELATIVE, "factor": 0}]},
        {"checks": [ACCURACY], "extra": 1},
        {"checks": [ACCURACY], "min_samples": 0},
        {"checks": [ACCURACY] * 33},
    ],
)
def test_a_policy_that_is_not_complete_and_exact_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_policy(data)
    assert caught.value.code == "gate.policy"


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        policy({**ACCURACY, "metric": "acuracy"})
    assert caught.value.code == "gate.unknown_metric"
    assert "accuracy" in caught.value.hint


def test_the_default_policy_demands_golden_outputs_and_accuracy() -> None:
    assert [check.metric for check in default_policy(0.8).checks] == ["golden_passed", "accuracy"]
    results = judge(default_policy(0.8), {"samples": 1000.0}, None)
    assert [result.passed for result in results] == [True, False, False]


def test_a_metric_that_was_not_measured_fails() -> None:
    samples, accuracy = verdict(policy(ACCURACY), {})
    assert samples.passed
    assert (accuracy.passed, accuracy.actual) == (False, None)
    assert "not measured" in accuracy.reason


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("op", [">=", "<="])
def test_what_is_not_a_number_fails_whatever_the_operator(value: float, op: str) -> None:
    assert not verdict(policy({**ACCURACY, "op": op}), {"accuracy": value})[1].passed


def test_too_few_samples_fail() -> None:
    samples, accuracy = judge(policy(ACCURACY), {"samples": 9.0, "accuracy": 1.0}, None)
    assert (samples.passed, accuracy.passed) == (False, True)


def test_relative_to_production_with_tolerance_and_factor() -> None:
    wanted = policy(RELATIVE, {"metric": "latency_p50_ms", "op": "<=", "relative_to": "production", "factor": 1.5})
    base = {"accuracy": 0.9, "latency_p50_ms": 2.0}
    good = verdict(wanted, {"accuracy": 0.8901, "latency_p50_ms": 3.0}, base)
    assert [result.passed for result in good] == [True, True, True]
    assert good[2].bound == 3.0
    bad = verdict(wanted, {"accuracy": 0.8899, "latency_p50_ms": 3.1}, base)
    assert [result.passed for result in bad] == [True, False, False]
    assert "0.89" in bad[1].reason


def test_without_production_a_relative_check_does_what_the_policy_says() -> None:
    assert not verdict(policy(RELATIVE), {"accuracy": 1.0})[1].passed
    assert verdict(policy({**RELATIVE, "without_production": "pass"}), {"accuracy": 0.1})[1].passed


def test_a_production_version_that_could_not_be_measured_fails_the_check() -> None:
    result = verdict(policy({**RELATIVE, "without_production": "pass"}), {"accuracy": 1.0}, {})[1]
    assert not result.passed
    assert "production" in result.reason


@given(st.sampled_from(sorted(METRICS)), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_check_passes_exactly_when_its_comparison_holds(metric: str, value: float, bound: float) -> None:
    wanted = policy({"metric": metric, "op": ">=", "value": bound}, min_samples=1)
    result = judge(wanted, {"samples": 100.0, metric: value}, None)[1]
    assert result.passed == (value >= bound)
    assert result.passed == (result.reason == "")
