"""What a gate can demand: metrics by name.

A *share* is events over trials (errors of requests) and can be compared with control devices by a statistical test.
A *value* is a number that was computed elsewhere (a drift score, an estimated accuracy), in millionths, with the number
of samples behind it. More metrics come by handing a larger table to `definition.parse`; none is registered globally.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hub.rollouts.plan import Mode, Operator

__all__ = ["METRICS", "Kind", "Metric"]


class Kind(StrEnum):
    """What the number is."""

    SHARE = "share"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Metric:
    """`good`: the operator that makes sense for it. `modes`: how the version runs while it is measured."""

    name: str
    kind: Kind
    good: Operator
    meaning: str
    modes: frozenset[Mode] = frozenset({Mode.LIVE})


_SHADOW, _BOTH = frozenset({Mode.SHADOW}), frozenset({Mode.LIVE, Mode.SHADOW})
_AT_MOST, _AT_LEAST = Operator.AT_MOST, Operator.AT_LEAST

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "install_success", Kind.SHARE, _AT_LEAST, "devices that installed it, of those that ended either way", _BOTH
        ),
        Metric("crash_rate", Kind.SHARE, _AT_MOST, "crashes of the agent while it served, of health reports"),
        Metric("error_rate", Kind.SHARE, _AT_MOST, "requests that the model failed, of all requests"),
        Metric("latency_p95", Kind.SHARE, _AT_MOST, "requests slower than the profile's budget, of all requests"),
        Metric("shadow_disagreement", Kind.SHARE, _AT_MOST, "answers unlike the live version's, of compared", _SHADOW),
        Metric("shadow_error_rate", Kind.SHARE, _AT_MOST, "inferences that the candidate failed, of tried", _SHADOW),
        Metric("shadow_latency_p95", Kind.SHARE, _AT_MOST, "candidate's inferences over the budget, of tried", _SHADOW),
        Metric("drift_score", Kind.VALUE, _AT_MOST, "how far the inputs have moved from the reference"),
        Metric("estimated_accuracy", Kind.VALUE, _AT_LEAST, "accuracy estimated without labels, from 0 to 1"),
    )
}
"""What can be demanded. `latency_p95`: the 95th percentile is within the budget as long as at most 5 % are over it."""
