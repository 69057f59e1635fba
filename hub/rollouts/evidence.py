"""Evidence for gates: numbers by metric, from whoever measures it. One question a metric and window.

A metric's source says what it knows by firmware profile; the whole fleet is added up here. More metrics come as more
sources: `hub.wiring` hands them in by name. What nobody measures gives no evidence, and the gate stays inconclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hub.rollouts.counts import Evidence, Measure
from hub.rollouts.metrics import METRICS, Kind
from hub.rollouts.plan import Compare, Gate
from hub.store import health, rollout_counts
from hub.store.database import Connection
from hub.store.rollouts import RolloutRow

__all__ = ["EvidenceCollector", "Found", "MetricSource", "Question", "standard_sources"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. since_s: wall clock; since_e: engine time of the rollout. control: numbers of others too."""

    metric: str
    row: RolloutRow
    since_s: float
    since_e: int
    control: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a profile's devices said, and those on other versions in the same periods."""

    candidate: Measure
    control: Measure | None = None


class MetricSource(Protocol):
    """Whoever measures metrics."""

    def measure(self, connection: Connection, question: Question) -> Mapping[str, Found]:
        """Numbers by firmware profile; under "" those of the whole fleet, where they do not simply add up."""
        ...


class InstallSource:
    """`install_success`: counted in the rollout's own rows."""

    def measure(self, connection: Connection, question: Question) -> Mapping[str, Found]:
        """Devices that installed it, of those that ended either way."""
        ended = rollout_counts.ended_by_profile(connection, question.row, question.since_e)
        return {profile: Found(_share(good, n)) for profile, (good, n) in ended.items()}


class HealthSource:
    """Crashes, errors and latency, in the words of the devices that have the version by this rollout."""

    def measure(self, connection: Connection, question: Question) -> Mapping[str, Found]:
        """Shares of what devices reported."""
        scope = _scope(question)
        own = health.version_health(connection, scope)
        others = health.control_health(connection, scope) if question.control and own else {}
        read = _HEALTH[question.metric]
        nobody = health.HealthSums(reports=0, requests=0, errors=0, over_budget=0, crashes=0)
        return {
            profile: Found(read(sums), read(others.get(profile, nobody)) if question.control else None)
            for profile, sums in own.items()
        }


class ShadowSource:
    """A candidate beside the version that serves; what serves is its control already."""

    def measure(self, connection: Connection, question: Question) -> Mapping[str, Found]:
        """Shares of what was compared."""
        read = _SHADOW[question.metric]
        sums = health.shadow_health(connection, _scope(question))
        return {profile: Found(read(one)) for profile, one in sums.items()}


def _share(part: int, n: int) -> Measure:
    return Measure(numerator=part, denominator=n, n=n)


def _scope(question: Question) -> health.Scope:
    plan = question.row.plan
    return health.Scope(
        model=plan.model, version=plan.version, since_s=question.since_s, cohort=question.row.rollout_id
    )


_HEALTH: Mapping[str, Callable[[health.HealthSums], Measure]] = {
    "crash_rate": lambda sums: _share(sums.crashes, sums.reports),
    "error_rate": lambda sums: _share(sums.errors, sums.requests),
    "latency_p95": lambda sums: _share(sums.over_budget, sums.requests),
}
_SHADOW: Mapping[str, Callable[[health.ShadowSums], Measure]] = {
    "shadow_disagreement": lambda sums: _share(sums.disagreed, sums.compared),
    "shadow_error_rate": lambda sums: _share(sums.errors, sums.compared + sums.errors),
    "shadow_latency_p95": lambda sums: _share(sums.over_budget, sums.compared),
}


def standard_sources() -> dict[str, MetricSource]:
    """The metrics that the hub measures without anybody's help."""
    health_source, shadow_source = HealthSource(), ShadowSource()
    return {
        "install_success": InstallSource(),
        **dict.fromkeys(_HEALTH, health_source),
        **dict.fromkeys(_SHADOW, shadow_source),
    }


class EvidenceCollector:
    """Asks the sources what the gates of a plan need."""

    def __init__(self, sources: Mapping[str, MetricSource]) -> None:
        self._sources = dict(sources)

    def collect(self, connection: Connection, row: RolloutRow, now_s: float, elapsed_e: int) -> tuple[Evidence, ...]:
        """The evidence for each gate of the plan, in its order."""
        asked: dict[tuple[str, int, bool], Mapping[str, Found]] = {}
        rows: list[Evidence] = []
        for gate_no, gate in enumerate(row.plan.gates):
            key = (gate.metric, gate.window_s, gate.compare is Compare.CONTROL)
            if key not in asked:
                asked[key] = self._ask(connection, row, gate, now_s, elapsed_e)
            rows += [
                Evidence(gate_no=gate_no, profile=profile, candidate=found.candidate, control=found.control)
                for profile, found in sorted(asked[key].items())
            ]
        return tuple(rows)

    def _ask(
        self, connection: Connection, row: RolloutRow, gate: Gate, now_s: float, elapsed_e: int
    ) -> Mapping[str, Found]:
        source = self._sources.get(gate.metric)
        if source is None:
            return {}
        question = Question(
            metric=gate.metric,
            row=row,
            since_s=now_s - gate.window_s,
            since_e=elapsed_e - gate.window_s,
            control=gate.compare is Compare.CONTROL,
        )
        found = source.measure(connection, question)
        return found if "" in found or not found else {"": _whole(gate.metric, found), **found}


def _whole(metric: str, found: Mapping[str, Found]) -> Found:
    controls = [one.control for one in found.values() if one.control is not None]
    known = METRICS.get(metric)
    add = _mean if known is not None and known.kind is Kind.VALUE else _sum
    return Found(add([one.candidate for one in found.values()]), add(controls) if controls else None)


def _sum(measures: list[Measure]) -> Measure:
    return Measure(
        numerator=sum(one.numerator for one in measures),
        denominator=sum(one.denominator for one in measures),
        n=sum(one.n for one in measures),
    )


def _mean(measures: list[Measure]) -> Measure:
    """The mean of values, each weighted by its samples."""
    n = sum(one.n for one in measures)
    total = sum(one.numerator * one.n for one in measures)
    return Measure(numerator=total // n if n else 0, denominator=1_000_000, n=n)
