"""The verdict of a gate: a policy and measured values in, one result per check out. Pure; what is missing fails."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from hub.gates.policy import Check, Policy

__all__ = ["CheckResult", "judge"]


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One check: what was demanded (`bound`), what was measured (`actual`), and why it failed if it did."""

    metric: str
    op: str
    bound: float | None
    actual: float | None
    passed: bool
    relative_to: str = ""
    reason: str = ""


def judge(policy: Policy, values: Mapping[str, float], production: Mapping[str, float] | None) -> list[CheckResult]:
    """One result per check, `samples` first. `production` None: there is no production version to compare with."""
    samples = Check(metric="samples", op=">=", value=float(policy.min_samples))
    return [_judge(check, values, production) for check in (samples, *policy.checks)]


def _judge(check: Check, values: Mapping[str, float], production: Mapping[str, float] | None) -> CheckResult:
    actual = _finite(values.get(check.metric))
    if check.relative_to is not None and production is None:
        passed = check.without_production == "pass"
        return _result(check, None, actual, passed, "There is no production version to compare with.")
    bound = _bound(check, production or {})
    if actual is None:
        return _result(check, bound, None, False, f"{check.metric} was not measured.")
    if bound is None:
        return _result(check, None, actual, False, f"{check.metric} was not measured for the production version.")
    passed = actual >= bound if check.op == ">=" else actual <= bound
    reason = "" if passed else f"{check.metric} is {actual:.6g}, not {check.op} {bound:.6g}."
    return _result(check, bound, actual, passed, reason)


def _bound(check: Check, production: Mapping[str, float]) -> float | None:
    if check.value is not None:
        return check.value
    base = _finite(production.get(check.metric))
    if base is None:
        return None
    return base * check.factor + (check.tolerance if check.op == "<=" else -check.tolerance)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _result(check: Check, bound: float | None, actual: float | None, passed: bool, reason: str) -> CheckResult:
    return CheckResult(
        metric=check.metric,
        op=check.op,
        bound=bound,
        actual=actual,
        passed=passed,
        relative_to=check.relative_to or "",
        reason=reason,
    )
