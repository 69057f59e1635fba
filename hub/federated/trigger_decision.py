"""Whether a model is trained now, and why: facts in, a decision with every condition and its figures out. Pure.

Rules:
- A veto always wins, whatever the conditions say; every veto is judged, so that people see all of them.
- What has fired does not fire again: an alarm by its number, a time of the schedule, a verdict's period, and new
  samples once for each run they are counted from. Firing uses up everything that held at that moment.
- The cooldown is in engine time, so neither a restart nor a clock that is set can shorten it; the schedule goes by a
  clock that has been steady for some time.
- An alarm counts only if it is about the version that serves; broken data of any version that devices tell of vetoes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hub.federated.trigger_facts import Alarm, Facts
from hub.federated.trigger_policy import QUALITY, AlarmWish, Clause, ScheduleWish, TrainPolicy
from shared.schedule import current, next_opening_s, parse_zone

__all__ = ["Check", "ClauseVerdict", "Decision", "alarm_key", "candidate_keys", "decide"]

_SEVERITIES = ("info", "warning", "critical")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A condition, or a veto. holds: of a veto, that it stands in the way. keys: what firing by it uses up."""

    name: str
    holds: bool
    text: str
    figures: dict[str, Any] = {}
    keys: tuple[str, ...] = ()


class ClauseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `when`; it holds when all of its conditions do."""

    holds: bool
    checks: tuple[Check, ...]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """reason: one sentence. keys: what this firing uses up; empty unless it fires."""

    fires: bool
    reason: str
    clauses: tuple[ClauseVerdict, ...]
    vetoes: tuple[Check, ...]
    keys: tuple[str, ...] = ()


def decide(policy: TrainPolicy, facts: Facts) -> Decision:
    """The decision at this moment."""
    clauses = tuple(_clause(clause, facts) for clause in policy.when)
    vetoes = _vetoes(policy, facts)
    held = [clause for clause in clauses if clause.holds]
    stopped = [veto for veto in vetoes if veto.holds]
    because = [check.text for check in held[0].checks] if held else []
    if held and not stopped:
        keys = sorted({key for clause in held for check in clause.checks for key in check.keys})
        reason = f"would fire because {' and '.join(because)}"
        return Decision(fires=True, reason=reason, clauses=clauses, vetoes=vetoes, keys=tuple(keys))
    if held:
        why = "; ".join(veto.text for veto in stopped)
        reason = f"would not fire because {why} (although {' and '.join(because)})"
    else:
        missing = [check.text for clause in clauses for check in clause.checks if not check.holds]
        reason = f"would not fire because {'; '.join([veto.text for veto in stopped] + missing)}"
    return Decision(fires=False, reason=reason, clauses=clauses, vetoes=vetoes)


def alarm_key(alert_id: int) -> str:
    """The key that an alarm uses up."""
    return f"alarm:{alert_id}"


def candidate_keys(policy: TrainPolicy, facts: Facts) -> set[str]:
    """The keys that this decision could use up, to be looked up before `used` is known."""
    clauses = (_clause(clause, msgspec.structs.replace(facts, used=frozenset())) for clause in policy.when)
    return {key for clause in clauses for check in clause.checks for key in check.keys}


# --- conditions -----------------------------------------------------------------------------------------------------
def _clause(clause: Clause, facts: Facts) -> ClauseVerdict:
    checks: list[Check] = []
    if clause.alarm is not None:
        checks.append(_alarm(clause.alarm, facts))
    if clause.accuracy_drop is not None:
        checks.append(_accuracy(clause.accuracy_drop, facts))
    if clause.new_samples is not None:
        checks.append(_samples(clause.new_samples, facts))
    if clause.schedule is not None:
        checks.append(_schedule(clause.schedule, facts))
    return ClauseVerdict(holds=all(check.holds for check in checks), checks=tuple(checks))


def _alarm(wish: AlarmWish, facts: Facts) -> Check:
    serving = None if facts.estimate is None else facts.estimate.version
    of_cause = [one for one in facts.alarms if one.signal in wish.causes and _at_least(one.severity, wish.severity)]
    served = [one for one in of_cause if one.version == serving]
    fresh = [one for one in served if alarm_key(one.alert_id) not in facts.used]
    figures: dict[str, Any] = {
        "severity": wish.severity,
        "open": [one.alert_id for one in of_cause],
        "of_other_versions": [one.alert_id for one in of_cause if one not in served],
        "answered": [one.alert_id for one in served if one not in fresh],
        "counted": [one.alert_id for one in fresh],
        "serving_version": serving,
    }
    if fresh:
        named = ", ".join(f"alarm {one.alert_id} ({one.rule}, {one.severity}, {one.level})" for one in fresh)
        keys = tuple(alarm_key(one.alert_id) for one in fresh)
        return Check(name="alarm", holds=True, text=f"{named} is open", figures=figures, keys=keys)
    if served:
        text = f"alarm {served[0].alert_id} has been answered by a run already"
    elif of_cause:
        text = f"alarm {of_cause[0].alert_id} is about version {of_cause[0].version}, which does not serve any more"
    else:
        text = f"no alarm of at least {wish.severity} is open for {', '.join(wish.causes)}"
    return Check(name="alarm", holds=False, text=text, figures=figures)


def _at_least(severity: str, least: str) -> bool:
    return severity in _SEVERITIES and _SEVERITIES.index(severity) >= _SEVERITIES.index(least)


def _accuracy(points: float, facts: Facts) -> Check:
    found = facts.estimate
    if found is None or not found.promised:
        figures: dict[str, Any] = {"wanted_points": points}
        return Check(name="accuracy_drop", holds=False, text="the accuracy is not estimated", figures=figures)
    figures = {
        "wanted_points": points, "points": round(found.drop, 4), "value": found.value, "low": found.low,
        "high": found.high, "promised": found.promised, "version": found.version, "period_s": found.period_s,
    }  # fmt: skip
    key = f"accuracy:{found.version}:{found.period_s}"
    drop = (
        f"the estimated accuracy {found.value:.3f} ({found.low:.3f} to {found.high:.3f}) is {found.drop:.1f} points "
        f"below the promised {found.promised:.3f}"
    )
    if found.drop < points:
        text = f"{drop}, and {points:g} are wanted"
        return Check(name="accuracy_drop", holds=False, text=text, figures=figures)
    if not found.worse:
        text = f"{drop}, but its interval does not exclude chance"
        return Check(name="accuracy_drop", holds=False, text=text, figures=figures)
    if key in facts.used:
        return Check(name="accuracy_drop", holds=False, text=f"{drop}, which was answered already", figures=figures)
    return Check(name="accuracy_drop", holds=True, text=drop, figures=figures, keys=(key,))


def _samples(wanted: int, facts: Facts) -> Check:
    new = max(0, facts.samples - facts.base_samples)
    figures = {"wanted": wanted, "new": new, "seen": facts.samples, "at_last_run": facts.base_samples}
    text = f"devices have seen {new} new samples of {wanted}"
    key = f"samples:{facts.revision}"
    holds = new >= wanted and key not in facts.used
    return Check(name="new_samples", holds=holds, text=text, figures=figures, keys=(key,) if holds else ())


def _schedule(wish: ScheduleWish, facts: Facts) -> Check:
    schedule, zone = wish.parsed(), parse_zone(wish.timezone)
    opening = current(schedule, zone, facts.now_s)
    figures: dict[str, Any] = {"cron": wish.cron, "timezone": wish.timezone, "within_s": schedule.duration_s}
    if opening is None:
        figures["next_s"] = next_opening_s(schedule, zone, facts.now_s)
        text = f"it is not the time of the schedule {wish.cron} ({wish.timezone})"
        return Check(name="schedule", holds=False, text=text, figures=figures)
    figures["slot_s"] = opening.opens_s
    key = f"schedule:{opening.opens_s}"
    if key in facts.used:
        text = f"this time of the schedule {wish.cron} ({wish.timezone}) has been used"
        return Check(name="schedule", holds=False, text=text, figures=figures)
    if not facts.settled:
        text = "the hub's clock was set, or the hub was away, some minutes ago"
        return Check(name="schedule", holds=False, text=text, figures=figures)
    text = f"it is the time of the schedule {wish.cron} ({wish.timezone})"
    return Check(name="schedule", holds=True, text=text, figures=figures, keys=(key,))


# --- vetoes ---------------------------------------------------------------------------------------------------------
def _vetoes(policy: TrainPolicy, facts: Facts) -> tuple[Check, ...]:
    return (
        Check(
            name="switched_off",
            holds=not policy.enabled,
            text="the policy is switched off" if not policy.enabled else "the policy is switched on",
        ),
        _quality(policy, facts),
        Check(
            name="run_active",
            holds=bool(facts.active_run),
            text=f"the run {facts.active_run} goes on" if facts.active_run else "no run goes on",
            figures={"run_id": facts.active_run},
        ),
        _waiting(facts),
        _cooldown(policy, facts),
        *_budget(policy, facts),
    )


def _quality(policy: TrainPolicy, facts: Facts) -> Check:
    told = [one for one in facts.alarms if one.signal in QUALITY and one.version in facts.reporting]
    standing = [one for one in told if not _tolerated(one, policy.faulty_devices_percent)]
    figures = {
        "alarms": [one.alert_id for one in standing],
        "tolerated": [one.alert_id for one in told if one not in standing],
    }
    if not standing:
        return Check(name="data_quality", holds=False, text="no alarm about broken data is open", figures=figures)
    named = ", ".join(f"{one.alert_id} ({one.rule}, version {one.version}, {one.level})" for one in standing)
    text = f"the data is broken: alarm {named} is open"
    return Check(name="data_quality", holds=True, text=text, figures=figures)


def _tolerated(alarm: Alarm, percent: float) -> bool:
    return alarm.signal == "faulty_devices" and alarm.judged > 0 and 100.0 * alarm.faulty <= percent * alarm.judged


def _waiting(facts: Facts) -> Check:
    waiting = facts.waiting_version
    text = "no candidate waits for its signatures"
    if waiting is not None:
        text = f"version {waiting} passed its gate and waits for its signatures (approve it, or withdraw it)"
    return Check(name="candidate_waiting", holds=waiting is not None, text=text, figures={"version": waiting})


def _cooldown(policy: TrainPolicy, facts: Facts) -> Check:
    left = 0 if facts.rested_s is None else max(0, policy.rest_s - facts.rested_s)
    figures = {"cooldown_s": policy.rest_s, "rested_s": facts.rested_s, "left_s": left}
    text = f"the cooldown of {policy.rest_s} s lasts another {left} s" if left else "the cooldown is over"
    return Check(name="cooldown", holds=left > 0, text=text, figures=figures)


def _budget(policy: TrainPolicy, facts: Facts) -> tuple[Check, ...]:
    budget, found = policy.budget, []
    if budget.runs_per_week is not None:
        text = f"{facts.week_runs} of {budget.runs_per_week} runs a week have begun"
        figures: dict[str, Any] = {"runs": facts.week_runs, "budget": budget.runs_per_week}
        holds = facts.week_runs >= budget.runs_per_week
        found.append(Check(name="budget_runs", holds=holds, text=text, figures=figures))
    for link, limit in sorted(policy.link_bytes.items()):
        moved = facts.link_bytes.get(link, 0)
        text = f"{moved} of {limit} bytes a month went over {link}"
        figures = {"link": link, "bytes": moved, "budget": limit}
        found.append(Check(name="budget_bytes", holds=moved >= limit, text=text, figures=figures))
    if budget.cost_per_month is not None:
        text = f"{facts.cost:.2f} of {budget.cost_per_month:.2f} were paid for bytes this month"
        figures = {"cost": facts.cost, "budget": budget.cost_per_month}
        found.append(Check(name="budget_cost", holds=facts.cost >= budget.cost_per_month, text=text, figures=figures))
    return tuple(found)
