"""From a definition to a plan: strategies expanded, amounts made whole numbers, and everything refused that could not
work or was left out where a default could do harm.

A hand-written group without a success threshold or without any limit on failures is refused, a rollout without gates
is refused unless it says `gates: []`, and a threshold that can never fail is refused: fail closed. Errors:
`rollout.invalid`.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.rollouts.amounts import basis_points, invalid, millionths, moment_s, seconds
from hub.rollouts.definition import Definition, StrategySpec, TargetsSpec
from hub.rollouts.metrics import METRICS, Metric
from hub.rollouts.plan import DEVICE_ZONE, Group, Mode, OnFailure, Plan, Rate, Retry, Strategy, Targets, Window
from hub.rollouts.planning_gates import plan_gates
from hub.rollouts.planning_groups import plan_groups
from hub.rollouts.strategies import default_gates, groups_of, mode_of
from shared.errors import InvalidInput
from shared.schedule import MAX_DURATION_S, MIN_DURATION_S, next_opening_s, parse_schedule, parse_zone
from shared.wire.down import ShadowRun

__all__ = ["plan_of"]

_DAY_S = 86400


def plan_of(definition: Definition, metrics: Mapping[str, Metric] = METRICS) -> Plan:
    """The plan of a definition. metrics: what gates may demand. The service checks filters and that the version is."""
    strategy = _strategy(definition)
    mode = mode_of(strategy.name if strategy else None)
    specs = groups_of(strategy) if strategy else definition.groups or ()
    groups = plan_groups(specs, definition.each_group, ready=strategy is not None, mode=mode)
    gates = definition.gates
    if gates is None:
        if strategy is None:
            raise invalid("gates", "it is missing", "Write `gates: []` if only installs shall be judged.")
        gates = default_gates(strategy.name)
    window = _window(definition)
    start_s, end_s = _times(definition, window)
    return Plan(
        model=definition.model,
        version=definition.version,
        strategy=strategy.name if strategy else None,
        mode=mode,
        targets=_targets(definition.targets),
        groups=groups,
        gates=plan_gates(gates, metrics, mode, definition.on_failure),
        on_failure=definition.on_failure,
        scope=definition.scope,
        rate=_rate(definition),
        max_concurrent_downloads=definition.max_concurrent_downloads,
        window=window,
        start_s=start_s,
        end_s=end_s,
        at_end=definition.at_end,
        retry=_retry(definition),
        priority=definition.priority,
        allow_new_devices=_allows_new(definition, mode, groups),
        shadow=_shadow(definition, mode),
        note=definition.note,
    )


def _strategy(definition: Definition) -> StrategySpec | None:
    given = definition.strategy
    if (given is None) == (definition.groups is None):
        raise invalid("strategy", "give either a strategy or groups", "docs/rollouts.md has an example of each.")
    return StrategySpec(name=given) if isinstance(given, Strategy) else given


def _targets(spec: TargetsSpec) -> Targets:
    given = [name for name in ("filter", "group", "devices") if getattr(spec, name) is not None]
    if len(given) != 1:
        raise invalid("targets", "give one of filter, group, devices", "`filter: all` is every active device.")
    if spec.devices is not None and len(set(spec.devices)) != len(spec.devices):
        raise invalid("targets.devices", "a device is there twice")
    return Targets(filter=spec.filter, group=spec.group, devices=spec.devices)


def _rate(definition: Definition) -> Rate | None:
    spec = definition.rate
    if spec is None:
        return None
    if spec.factor is None:
        if spec.every is not None or spec.cap is not None or spec.count != "assigned":
            raise invalid("rate.factor", "every, cap and count only mean something with a factor")
        return Rate(base=spec.per_minute, cap=spec.per_minute)
    if spec.every is None or spec.cap is None:
        missing = "every" if spec.every is None else "cap"
        raise invalid(f"rate.{missing}", "a rate that grows needs it", "Example: factor 2, every 500, cap 5000.")
    factor_percent = basis_points(spec.factor, "rate.factor", low=101, high=10_000)
    if spec.cap < spec.per_minute:
        raise invalid("rate.cap", f"{spec.cap} is below per_minute")
    on_success = spec.count == "succeeded"
    return Rate(
        base=spec.per_minute, factor_percent=factor_percent, every=spec.every, cap=spec.cap, on_success=on_success
    )


def _window(definition: Definition) -> Window | None:
    spec = definition.window
    if spec is None:
        return None
    duration_s = seconds(spec.duration_s, "window.duration_s", MIN_DURATION_S, MAX_DURATION_S)
    try:
        parse_schedule(spec.cron, duration_s)
        if spec.timezone != DEVICE_ZONE:
            parse_zone(spec.timezone)
    except InvalidInput as error:
        field = "window.timezone" if error.code == "schedule.timezone" else "window.cron"
        raise invalid(field, error.message.rstrip("."), error.hint) from error
    return Window(cron=spec.cron, duration_s=duration_s, timezone=spec.timezone)


def _times(definition: Definition, window: Window | None) -> tuple[int | None, int | None]:
    start_s, end_s = moment_s(definition.start_at, "start_at"), moment_s(definition.end_at, "end_at")
    if start_s is not None and end_s is not None:
        if end_s <= start_s:
            raise invalid("end_at", "it is not after start_at")
        if window is not None and window.timezone != DEVICE_ZONE:
            opens_s = next_opening_s(
                parse_schedule(window.cron, window.duration_s), parse_zone(window.timezone), start_s - 1
            )
            if opens_s >= end_s:
                raise invalid("window.cron", "the window does not open between start_at and end_at")
    return start_s, end_s


def _retry(definition: Definition) -> Retry:
    spec = definition.retry
    if spec is None:
        return Retry()
    return Retry(attempts=spec.attempts, backoff_s=seconds(spec.backoff_s, "retry.backoff_s", 60, 7 * _DAY_S))


def _allows_new(definition: Definition, mode: Mode, groups: tuple[Group, ...]) -> bool:
    """Devices that join later get it too, unless it says otherwise, the devices were named, or it is a shadow."""
    if mode is Mode.SHADOW:
        if definition.allow_new_devices:
            raise invalid("allow_new_devices", "a shadow ends; it is not kept for devices that join later")
        return False
    if definition.allow_new_devices is not None:
        return definition.allow_new_devices
    return definition.targets.devices is None and any(group.percent_bp is not None for group in groups)


def _shadow(definition: Definition, mode: Mode) -> ShadowRun | None:
    spec = definition.shadow
    if mode is not Mode.SHADOW:
        if spec is not None:
            raise invalid("shadow", "it only means something with the strategy shadow")
        return None
    if definition.on_failure is OnFailure.PAUSE:
        raise invalid("on_failure", "a shadow that fails is taken away; use abort or roll_back")
    if spec is None:
        return ShadowRun()
    tolerance_ppm = millionths(spec.tolerance, "shadow.tolerance")
    if not 0 <= tolerance_ppm <= 10**12:
        raise invalid("shadow.tolerance", "it is not from 0 to 1,000,000")
    return ShadowRun(
        share_bp=basis_points(spec.share, "shadow.share", low=1),
        cpu_bp=basis_points(spec.cpu, "shadow.cpu", low=1),
        tolerance_ppm=tolerance_ppm,
    )
