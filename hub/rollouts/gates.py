"""The verdict of a gate: evidence in, pass, fail or inconclusive out, with the numbers kept. Pure; what is missing is
never a pass.

Rules:
- With its minimum sample a gate compares what was observed; nothing is rounded. Below it the verdict is inconclusive,
  except that a share which is over the limit beyond reasonable doubt fails at once.
- Compared with control (devices on other versions, same periods, profile by profile), a share fails only if it is worse
  by more than the threshold *and* by more than chance; worse by more than the threshold but perhaps by chance is
  inconclusive. While the control has too few samples, as when nobody is left on another version, the gate's fallback
  limit counts instead.
- Each profile is held to the same. One profile that fails fails the gate; one with too few samples decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hub.rollouts.metrics import METRICS, Kind, Metric
from hub.rollouts.plan import Compare, Gate, Operator
from hub.rollouts.significance import MIN_CONTROL_SAMPLE, PPM, Stratum, is_above, is_worse, is_worse_by, standardised
from hub.rollouts.state import Evidence, GateResult, Measure, Reason, Verdict

__all__ = ["judge_gate", "overall"]


@dataclass(frozen=True, slots=True)
class _Share:
    """The undesired part: `bad` of `n`."""

    bad: int
    n: int


def judge_gate(
    gate_no: int, gate: Gate, evidence: Sequence[Evidence], metrics: Mapping[str, Metric] = METRICS
) -> tuple[GateResult, ...]:
    """The verdict on the whole fleet first, then on each profile with evidence. Without evidence: inconclusive."""
    own = {row.profile: row for row in evidence if row.gate_no == gate_no}
    nothing = Evidence(gate_no=gate_no, candidate=Measure(numerator=0, denominator=0, n=0))
    profiles = sorted(name for name in own if name) if gate.per_profile else []
    metric = metrics.get(gate.metric)
    alike = [own[name] for name in sorted(own) if name]
    whole = _judge(gate, own.get("", nothing), metric, alike)
    return (whole, *(_judge(gate, own[name], metric, ()) for name in profiles))


def overall(results: Sequence[GateResult]) -> GateResult:
    """The one result that decides: a failing one if there is any, else that of the whole fleet."""
    return next((result for result in results if result.verdict is Verdict.FAIL), results[0])


def _judge(gate: Gate, row: Evidence, metric: Metric | None, alike: Sequence[Evidence]) -> GateResult:
    """`alike`: the same evidence in parts that can be compared like with like; empty: the row is such a part."""
    if metric is None:
        verdict, why = Verdict.INCONCLUSIVE, f"Nobody measures {gate.metric}."
    elif not all(_possible(m) for one in (row, *alike) for m in (one.candidate, one.control) if m is not None):
        verdict, why = Verdict.INCONCLUSIVE, "The numbers are not possible."
    elif metric.kind is Kind.SHARE:
        verdict, why = _judge_share(gate, row, alike or [row])
    else:
        verdict, why = _judge_value(gate, row)
    where = f" on {row.profile}" if row.profile else ""
    reason = Reason(code=f"gate.{verdict}", message=f"{gate.metric}{where}: {why}", numbers=_numbers(gate, row))
    return GateResult(gate_no=row.gate_no, metric=gate.metric, profile=row.profile, verdict=verdict, reason=reason)


def _possible(measure: Measure) -> bool:
    return measure.n >= 0 and measure.denominator >= 0


def _numbers(gate: Gate, row: Evidence) -> dict[str, int]:
    numbers = {"numerator": row.candidate.numerator, "denominator": row.candidate.denominator, "n": row.candidate.n}
    if row.control is not None:
        numbers |= {"control_numerator": row.control.numerator, "control_denominator": row.control.denominator}
        numbers |= {"control_n": row.control.n}
    if gate.fallback_ppm is not None:
        numbers["fallback_ppm"] = gate.fallback_ppm
    return numbers | {"threshold_ppm": gate.threshold_ppm, "min_sample": gate.min_sample}


# --- shares ---------------------------------------------------------------------------------------------------------
def _judge_share(gate: Gate, row: Evidence, alike: Sequence[Evidence]) -> tuple[Verdict, str]:
    candidate = _undesired(gate, row.candidate)
    if gate.compare is Compare.CONTROL:
        strata = _strata(gate, alike)
        enough = max(gate.min_sample, MIN_CONTROL_SAMPLE)
        if sum(one.n for one in strata) >= enough and sum(one.control_n for one in strata) >= enough:
            return _against_control(gate, candidate, strata)
    limit = gate.threshold_ppm if gate.compare is Compare.CONSTANT else gate.fallback_ppm
    if limit is None:
        return Verdict.INCONCLUSIVE, "there are too few control devices, and no fallback limit."
    return _against_limit(gate, candidate, limit)


def _undesired(gate: Gate, measure: Measure) -> _Share:
    events = min(max(measure.numerator, 0), measure.denominator)
    bad = events if gate.operator is Operator.AT_MOST else measure.denominator - events
    return _Share(bad, measure.denominator)


def _against_limit(gate: Gate, share: _Share, limit_ppm: int) -> tuple[Verdict, str]:
    bad_limit = limit_ppm if gate.operator is Operator.AT_MOST else PPM - limit_ppm
    shown = _shown_share(gate, share)
    limit = f"{gate.operator} {_percent(limit_ppm)}"
    if share.n >= gate.min_sample and share.n > 0:
        if share.bad * PPM > bad_limit * share.n:
            return Verdict.FAIL, f"{shown} is not {limit}."
        return Verdict.PASS, f"{shown} is {limit}."
    if is_above(share.bad, share.n, bad_limit):
        return Verdict.FAIL, f"{shown} cannot become {limit}, even with so few samples."
    return Verdict.INCONCLUSIVE, f"{share.n} of {gate.min_sample} samples so far."


def _strata(gate: Gate, alike: Sequence[Evidence]) -> list[Stratum]:
    """The parts in which there is something to compare with."""
    pairs = [
        (_undesired(gate, one.candidate), _undesired(gate, one.control)) for one in alike if one.control is not None
    ]
    return [Stratum(a.bad, a.n, b.bad, b.n) for a, b in pairs if a.n and b.n]


def _against_control(gate: Gate, share: _Share, strata: Sequence[Stratum]) -> tuple[Verdict, str]:
    bad_ppm = int(standardised(strata) * PPM)
    control = _percent(bad_ppm if gate.operator is Operator.AT_MOST else PPM - bad_ppm)
    samples = sum(one.control_n for one in strata)
    allowed = f"{_percent(gate.threshold_ppm)} worse than the control's {control} ({samples} samples)"
    shown = _shown_share(gate, share)
    if not is_worse_by(strata, gate.threshold_ppm):
        return Verdict.PASS, f"{shown} is at most {allowed}."
    if is_worse(strata):
        return Verdict.FAIL, f"{shown} is more than {allowed}."
    return Verdict.INCONCLUSIVE, f"{shown} is more than {allowed}, but that may be chance."


def _shown_share(gate: Gate, share: _Share) -> str:
    events = share.bad if gate.operator is Operator.AT_MOST else share.n - share.bad
    return f"{_percent(events * PPM // share.n if share.n else 0)} ({events} of {share.n})"


# --- values ---------------------------------------------------------------------------------------------------------
def _judge_value(gate: Gate, row: Evidence) -> tuple[Verdict, str]:
    measure, control = row.candidate, row.control
    if measure.n < gate.min_sample or measure.denominator == 0:
        return Verdict.INCONCLUSIVE, f"{measure.n} of {gate.min_sample} samples so far."
    usable = control is not None and control.n >= gate.min_sample and control.denominator > 0
    if gate.compare is Compare.CONTROL and control is not None and usable:
        return _value_against_control(gate, measure, control)
    limit = gate.threshold_ppm if gate.compare is Compare.CONSTANT else gate.fallback_ppm
    if limit is None:
        return Verdict.INCONCLUSIVE, "there are too few control devices, and no fallback limit."
    scaled, bound = measure.numerator * PPM, limit * measure.denominator
    good = scaled <= bound if gate.operator is Operator.AT_MOST else scaled >= bound
    shown = f"{_decimal(scaled // measure.denominator)} is {'' if good else 'not '}{gate.operator} {_decimal(limit)}."
    return (Verdict.PASS if good else Verdict.FAIL), shown


def _value_against_control(gate: Gate, measure: Measure, control: Measure) -> tuple[Verdict, str]:
    sign = 1 if gate.operator is Operator.AT_MOST else -1
    worse = sign * (measure.numerator * control.denominator - control.numerator * measure.denominator)
    good = worse * PPM <= gate.threshold_ppm * measure.denominator * control.denominator
    ours = _decimal(measure.numerator * PPM // measure.denominator)
    theirs = _decimal(control.numerator * PPM // control.denominator)
    how = "at most" if good else "more than"
    return (
        Verdict.PASS if good else Verdict.FAIL,
        f"{ours} is {how} {_decimal(gate.threshold_ppm)} worse than the control's {theirs}.",
    )


# --- words ----------------------------------------------------------------------------------------------------------
def _percent(ppm: int) -> str:
    return f"{_decimal(ppm * 100)} %"


def _decimal(ppm: int) -> str:
    sign = "-" if ppm < 0 else ""
    return f"{sign}{abs(ppm) // PPM}.{abs(ppm) % PPM:06d}".rstrip("0").rstrip(".")
