"""The facts about all models with a policy, put together from what the store has.

Rules: a fixed number of queries, whatever the number of models and devices. A version counts as reporting while its
newest verdict is at most two periods older than the model's newest; of those the one with most rows is what serves.
Runs that somebody asked for count as those that a trigger started: all is counted from the last run, whoever began it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from hub.alerts.rules import Rule
from hub.deployments.compatibility import Compatibility
from hub.federated.run_traffic import links_of
from hub.federated.traffic import LinkTraffic, Moved, by_link
from hub.federated.trigger_decision import candidate_keys
from hub.federated.trigger_facts import Alarm, Estimate, Facts, next_base
from hub.federated.trigger_policy import TrainPolicy
from hub.rollouts.clockwork import Step, advance
from hub.rollouts.state import EngineClock
from hub.store import trigger_facts as store
from hub.store import triggers
from hub.store.database import Connection
from hub.store.trigger_facts import AlertFact, RunFact, VerdictFact
from hub.store.triggers import StateRow

__all__ = ["Gathered", "Gatherer"]

_WEEK_S, _MONTH_S = 7 * 86_400.0, 30 * 86_400.0
_PERIODS_COUNT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Facts by model, the states before and after this look, and the clock before and at it."""

    before: EngineClock
    step: Step
    facts: Mapping[str, Facts]
    stored: Mapping[str, StateRow]
    states: Mapping[str, StateRow]


@dataclass(slots=True, kw_only=True)
class _Read:
    """What the queries gave, by model."""

    alarms: dict[str, list[AlertFact]] = field(default_factory=dict)
    verdicts: dict[str, list[VerdictFact]] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    runs: Mapping[str, RunFact] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    traffic: dict[str, list[LinkTraffic]] = field(default_factory=dict)


class Gatherer:
    """rules: of alerts, by name. period_s: of monitoring."""

    def __init__(self, rules: Mapping[str, Rule], profiles: Compatibility, period_s: int) -> None:
        self._rules = rules
        self._profiles = profiles
        self._period_s = period_s

    def gather(self, connection: Connection, policies: Mapping[str, TrainPolicy], now: float) -> Gathered:
        """The facts at this moment, within one snapshot."""
        before = triggers.load_clock(connection)
        step = advance(before, int(now), 0)
        read = self._read(connection, list(policies), now)
        stored = triggers.load_states(connection, policies)
        states = {name: _state(name, stored.get(name), read, step) for name in policies}
        facts = {name: self._facts(name, read, states[name], step, int(now)) for name in policies}
        keys = {name: candidate_keys(policy, facts[name]) for name, policy in policies.items()}
        used = store.used_keys(connection, keys)
        facts = {name: _with_used(found, used[name]) for name, found in facts.items()}
        return Gathered(before=before, step=step, facts=facts, stored=stored, states=states)

    def _read(self, connection: Connection, models: Sequence[str], now: float) -> _Read:
        read = _Read(
            runs=store.runs_of(connection, models, now - _WEEK_S),
            waiting=store.waiting_versions(connection, models),
            samples=store.samples_seen(connection, models),
        )
        for alert in store.open_alerts(connection, models):
            read.alarms.setdefault(alert.model, []).append(alert)
        for verdict in store.verdicts_of(connection, models):
            read.verdicts.setdefault(verdict.model, []).append(verdict)
        serving = [self._serving(found) for found in read.verdicts.values()]
        results = store.results_of(connection, serving)
        read.estimates = {one.model: _estimate(one, results[one.model, one.version]) for one in serving}
        read.traffic = self._traffic(connection, models, now)
        return read

    def _traffic(self, connection: Connection, models: Sequence[str], now: float) -> dict[str, list[LinkTraffic]]:
        moved: dict[str, list[Moved]] = {}
        for row in store.traffic_of(connection, models, now - _MONTH_S):
            one = Moved(profile=row.profile, devices=row.devices, bytes_down=row.bytes_down, bytes_up=row.bytes_up)
            moved.setdefault(row.model, []).append(one)
        links = links_of(self._profiles, (one.profile for rows in moved.values() for one in rows))
        return {model: by_link(rows, links) for model, rows in moved.items()}

    def _reporting(self, verdicts: Sequence[VerdictFact]) -> list[VerdictFact]:
        newest = max(one.period_s for one in verdicts)
        return [one for one in verdicts if one.period_s >= newest - _PERIODS_COUNT * self._period_s]

    def _serving(self, verdicts: Sequence[VerdictFact]) -> VerdictFact:
        return max(self._reporting(verdicts), key=lambda one: (one.rows, one.version))

    def _facts(self, model: str, read: _Read, state: StateRow, step: Step, now_s: int) -> Facts:
        verdicts, run = read.verdicts.get(model, []), read.runs.get(model)
        traffic = read.traffic.get(model, [])
        return Facts(
            model=model,
            now_s=now_s,
            settled=step.settled,
            engine_s=step.clock.elapsed_s,
            rested_s=None if state.began_e is None else step.clock.elapsed_s - state.began_e,
            revision=state.revision,
            reporting=frozenset(one.version for one in self._reporting(verdicts)) if verdicts else frozenset(),
            estimate=read.estimates.get(model),
            alarms=tuple(self._alarm(one) for one in read.alarms.get(model, [])),
            samples=read.samples.get(model, 0),
            base_samples=state.base_samples,
            active_run="" if run is None else run.active,
            waiting_version=read.waiting.get(model),
            used=frozenset(),
            week_runs=0 if run is None else run.week,
            link_bytes={one.link: one.bytes for one in traffic},
            cost=sum(one.cost for one in traffic),
        )

    def _alarm(self, alert: AlertFact) -> Alarm:
        rule = self._rules.get(alert.rule)
        about_devices = alert.level == "devices"
        return Alarm(
            alert_id=alert.alert_id,
            version=alert.version,
            rule=alert.rule,
            signal="" if rule is None else rule.signal,
            severity=alert.severity,
            level=alert.level,
            faulty=int(alert.detail.get("value", 0)) if about_devices else 0,
            judged=int(alert.detail.get("of", 0)) if about_devices else 0,
        )


def _with_used(facts: Facts, used: frozenset[str]) -> Facts:
    """The facts, knowing which keys have fired."""
    return msgspec.structs.replace(facts, used=used)


def _state(model: str, stored: StateRow | None, read: _Read, step: Step) -> StateRow:
    """What counts from now on: a run that is new here, whoever began it, is the one that all is counted from."""
    before = stored or StateRow(model=model)
    run, samples = read.runs.get(model), read.samples.get(model, 0)
    newest = "" if run is None else run.newest
    if newest != before.run_id:
        return StateRow(
            model=model,
            run_id=newest,
            revision=before.revision + 1,
            base_samples=samples,
            began_e=step.clock.elapsed_s,
        )
    if next_base(samples, before.base_samples) != before.base_samples:
        return replace(before, base_samples=samples)
    return before


def _estimate(verdict: VerdictFact, result: Mapping[str, object]) -> Estimate:
    plain = Estimate(version=verdict.version, period_s=verdict.period_s, rows=verdict.rows)
    told = result.get("estimated")
    for one in told if isinstance(told, list) else []:
        if one["metric"] == "accuracy":
            return Estimate(
                version=verdict.version,
                period_s=verdict.period_s,
                rows=verdict.rows,
                value=float(one["value"]),
                low=float(one["low"]),
                high=float(one["high"]),
                promised=float(one["promised"]),
                worse=bool(one["worse"]),
            )
    return plain
