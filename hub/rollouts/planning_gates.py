"""The gates of a plan. What nobody measures, what points the wrong way and what can never fail is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from hub.rollouts.amounts import invalid, millionths, seconds
from hub.rollouts.definition import GateSpec
from hub.rollouts.metrics import Kind, Metric
from hub.rollouts.plan import Compare, Gate, Mode, OnFailure, Operator
from hub.rollouts.significance import MIN_CONTROL_SAMPLE, PPM
from shared import limits

__all__ = ["plan_gates"]

_MAX_WINDOW_S = 30 * 86400


def plan_gates(
    specs: Sequence[GateSpec], metrics: Mapping[str, Metric], mode: Mode, on_failure: OnFailure
) -> tuple[Gate, ...]:
    """The gates in their order. on_failure: what a gate does that does not say."""
    return tuple(_gate(f"gates[{no}]", spec, metrics, mode, on_failure) for no, spec in enumerate(specs))


def _gate(field: str, spec: GateSpec, metrics: Mapping[str, Metric], mode: Mode, on_failure: OnFailure) -> Gate:
    metric = _metric(field, spec, metrics, mode)
    threshold_ppm = millionths(spec.threshold, f"{field}.threshold")
    fallback_ppm = _fallback(field, spec)
    if metric.kind is Kind.SHARE:
        _check_share(f"{field}.threshold", spec.compare is Compare.CONSTANT, spec.operator, threshold_ppm)
        if fallback_ppm is not None:
            _check_share(f"{field}.fallback", True, spec.operator, fallback_ppm)
    if spec.compare is Compare.CONTROL and threshold_ppm < 0:
        raise invalid(f"{field}.threshold", "how much worse than the control it may be is not negative")
    if spec.compare is Compare.CONTROL and spec.min_sample < MIN_CONTROL_SAMPLE:
        raise invalid(f"{field}.min_sample", f"a comparison with control needs at least {MIN_CONTROL_SAMPLE}")
    return Gate(
        metric=spec.metric,
        operator=spec.operator,
        threshold_ppm=threshold_ppm,
        compare=spec.compare,
        fallback_ppm=fallback_ppm,
        window_s=seconds(spec.window_s, f"{field}.window_s", limits.HEALTH_PERIOD_S, _MAX_WINDOW_S),
        min_sample=spec.min_sample,
        per_profile=spec.per_profile,
        on_fail=spec.on_fail or on_failure,
        on_inconclusive=spec.on_inconclusive,
    )


def _metric(field: str, spec: GateSpec, metrics: Mapping[str, Metric], mode: Mode) -> Metric:
    metric = metrics.get(spec.metric)
    if metric is None:
        near = difflib.get_close_matches(spec.metric, metrics, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Metrics: {', '.join(metrics)}."
        raise invalid(f"{field}.metric", f"{spec.metric!r:.70} is not a metric", hint)
    if mode not in metric.modes:
        where = "only measured in shadow" if mode is Mode.LIVE else "not measured in shadow"
        raise invalid(f"{field}.metric", f"{spec.metric} is {where}")
    if spec.operator is not metric.good:
        better = "small" if metric.good is Operator.AT_MOST else "great"
        raise invalid(f"{field}.operator", f"{spec.metric} is good when it is {better}; use '{metric.good}'")
    return metric


def _fallback(field: str, spec: GateSpec) -> int | None:
    if spec.compare is Compare.CONSTANT:
        if spec.fallback is not None:
            raise invalid(f"{field}.fallback", "it only means something with compare: control")
        return None
    if spec.fallback is None:
        hint = "It is the limit while too few devices are left on another version, as in the last group."
        raise invalid(f"{field}.fallback", "it is missing", hint)
    return millionths(spec.fallback, f"{field}.fallback")


def _check_share(field: str, is_limit: bool, operator: Operator, share_ppm: int) -> None:
    if not 0 <= share_ppm <= PPM:
        raise invalid(field, "a share is from 0 to 1", "Write 2% or 0.02 for two per cent.")
    never = PPM if operator is Operator.AT_MOST or not is_limit else 0
    if share_ppm == never:
        raise invalid(field, "a gate like that could never fail")
