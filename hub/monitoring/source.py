"""What monitoring tells the gates of rollouts: `drift_score` and `estimated_accuracy`, by profile, from live sums.

The gates hear of a version as soon as its windows are counted, also while alerts about it are held because its rollout
goes on. They get no number from fewer rows than a verdict needs; then the gate is inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.monitoring.evaluation import sums_from
from hub.monitoring.examine import Thresholds
from hub.monitoring.judge import drift_score, estimate
from hub.monitoring.references import References, Watched
from hub.monitoring.sums import Sums, merged, split
from hub.rollouts.counts import Measure
from hub.rollouts.evidence import Found, MetricSource, Question
from hub.store.database import Connection
from hub.store.drift import sums_since

__all__ = ["DriftSource", "drift_sources"]

_MILLION = 1_000_000


class DriftSource:
    """Both metrics of a version; on the fleet's sums under ""."""

    def __init__(self, references: References, period_s: int) -> None:
        self._references = references
        self._period_s = period_s

    def measure(self, connection: Connection, question: Question) -> Mapping[str, Found]:
        """Numbers by firmware profile, and of all together under ""."""
        plan = question.row.plan
        pair = (plan.model, plan.version)
        watched = self._references.get(connection, [pair]).get(pair)
        if watched is None or watched.reference is None:
            return {}
        rows = sums_since(connection, *pair, question.since_s - self._period_s)
        by_profile: dict[str, list[Sums]] = {}
        for row in rows:
            by_profile.setdefault(row.profile, []).append(sums_from(row))
        if not rows:
            return {}
        period = (rows[0].period_s, rows[-1].period_s + self._period_s)
        sums = {profile: merged(parts, watched.shape) for profile, parts in by_profile.items()}
        sums[""] = merged(list(sums.values()), watched.shape)
        measured = {name: _measure(question.metric, one, watched, period) for name, one in sums.items()}
        return {name: Found(one) for name, one in measured.items() if one is not None}


def _measure(metric: str, sums: Sums, watched: Watched, period: tuple[int, int]) -> Measure | None:
    if watched.reference is None or sums.rows < Thresholds().min_rows:
        return None
    if metric == "drift_score":
        value, n = drift_score(sums, watched.shape, watched.reference, period)
        return Measure(numerator=round(value * _MILLION), denominator=_MILLION, n=n)
    for one in estimate(split(sums.vector, watched.shape).scores, watched.reference, watched.calibration):
        if one.metric == "accuracy":
            return Measure(numerator=round(one.value * _MILLION), denominator=_MILLION, n=one.n)
    return None


def drift_sources(references: References, period_s: int) -> dict[str, MetricSource]:
    """The metrics that monitoring measures, by name."""
    source = DriftSource(references, period_s)
    return {"drift_score": source, "estimated_accuracy": source}
