"""The gate policy of a model, as data.

    {"checks": [{"metric": "golden_passed", "op": ">=", "value": 1},
                {"metric": "accuracy", "op": ">=", "relative_to": "production", "tolerance": 0.01}],
     "min_samples": 200}

A policy with no checks does not exist, a metric that nobody knows is refused when it is written, and one that could not
be measured fails when it is evaluated. A model without a policy of its own is held to the hub's default one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared import limits
from shared.errors import InvalidInput

__all__ = ["METRICS", "Check", "Policy", "default_policy", "needs_production", "parse_policy"]

METRICS: Mapping[str, str] = {
    "accuracy": "share of samples whose most probable class is the right one",
    "accuracy_low": "lower end of the 95 % confidence interval of the accuracy",
    "top_3_accuracy": "share of samples whose right class is among the three most probable",
    "top_5_accuracy": "share of samples whose right class is among the five most probable",
    "log_loss": "mean negative logarithm of the probability of the right class",
    "per_class_recall_min": "recall of the worst class that occurs in the data",
    "mean_absolute_error": "regression: mean absolute difference",
    "root_mean_squared_error": "regression: root of the mean squared difference",
    "golden_passed": "1 if the golden outputs hold within the bundle's tolerance, else 0",
    "golden_max_difference": "greatest absolute difference to the golden outputs",
    "latency_p50_ms": "median milliseconds of one prediction on the hub, for comparison with production",
    "latency_p99_ms": "99th percentile of the same",
    "bundle_bytes": "length of the bundle",
    "samples": "how many samples were evaluated",
}
"""What can be demanded."""

Finite = Annotated[float, Meta(ge=-1e18, le=1e18)]


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One demand: `metric op value`, or relative to what the production version gives on the same data.

    Relative: the bound is production's value times `factor`, made easier by `tolerance`. `without_production` says
    what the check gives while there is no production version yet.
    """

    metric: Annotated[str, Meta(min_length=1, max_length=64)]
    op: Literal[">=", "<="]
    value: Finite | None = None
    relative_to: Literal["production"] | None = None
    tolerance: Annotated[float, Meta(ge=0, le=1e18)] = 0.0
    factor: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    without_production: Literal["fail", "pass"] = "fail"

    def __post_init__(self) -> None:
        if (self.value is None) == (self.relative_to is None):
            raise ValueError(f"the check of {self.metric} needs either value or relative_to")
        if any(not math.isfinite(n) for n in (self.value or 0.0, self.tolerance, self.factor)):
            raise ValueError(f"the check of {self.metric} has a number that is not finite")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All checks must pass, on at least `min_samples` samples."""

    schema_version: Literal[1] = 1
    checks: Annotated[list[Check], Meta(min_length=1, max_length=limits.MAX_GATE_CHECKS_COUNT)]
    min_samples: Annotated[int, Meta(ge=1, le=10**9)] = 100


def parse_policy(data: Mapping[str, Any]) -> Policy:
    """A policy from plain JSON values; errors `gate.policy`, `gate.unknown_metric`."""
    try:
        policy = msgspec.convert(dict(data), Policy)
    except msgspec.ValidationError as error:
        raise InvalidInput("gate.policy", f"The gate policy is not valid: {error}."[:300]) from error
    for check in policy.checks:
        if check.metric not in METRICS:
            near = difflib.get_close_matches(check.metric, METRICS, n=1)
            raise InvalidInput(
                "gate.unknown_metric",
                f"{check.metric!r:.80} is not a metric.",
                hint=f"Did you mean {near[0]}?" if near else f"Metrics: {', '.join(METRICS)}.",
            )
    return policy


def default_policy(min_accuracy: float) -> Policy:
    """What a model without a policy of its own is held to: golden outputs, and an accuracy from 0 to 1."""
    return Policy(
        checks=[
            Check(metric="golden_passed", op=">=", value=1.0),
            Check(metric="accuracy", op=">=", value=min_accuracy),
        ]
    )


def needs_production(policy: Policy) -> bool:
    """Whether some check compares with the production version."""
    return any(check.relative_to is not None for check in policy.checks)
