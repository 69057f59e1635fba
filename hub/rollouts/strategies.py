"""Ready strategies: what each expands to, with every default that a person did not give. Values only.

- `canary`: 1 %, 10 %, 50 %, 100 %, the first of them baking longer.
- `linear`: equal steps. `exponential`: each wave some times the one before.
- `all-at-once`: one group; the gates judge afterwards.
- `blue-green`: a canary of 1 % goes live; then *all* devices stage the version beside the one that serves, and when
  enough hold it ready a person lets them switch together. A device is not one of many interchangeable servers, so there
  is no second fleet to switch to: its two slots are blue and green, and the version before stays on disk for an instant
  way back.
- `shadow`: a share of the devices runs the version beside the live one and answers nobody; it is judged by how often
  the two disagree, and taken away at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.rollouts.amounts import Amount, basis_points, invalid
from hub.rollouts.definition import GateSpec, GroupSpec, StrategySpec
from hub.rollouts.plan import Compare, Mode, Operator, Strategy

__all__ = ["DEFAULTS", "default_gates", "groups_of", "mode_of"]

DEFAULTS = GroupSpec(
    name="default",
    min_devices=1,
    success_percent=90,
    error_percent=5,
    min_sample=10,
    observe_s="24h",
    bake_s="1h",
    approve=False,
    prepare=False,
    count_unreached=True,
)
"""What the groups of a ready strategy are held to."""

_CANARY_BAKE = "2h"
_CANARY_STEPS: tuple[Amount, ...] = (1, 10, 50, 100)
_SHADOW_BAKE = "24h"
_OPTIONS = {
    Strategy.CANARY: {"steps"},
    Strategy.LINEAR: {"step"},
    Strategy.EXPONENTIAL: {"start", "factor"},
    Strategy.SHADOW: {"share"},
}


def mode_of(strategy: Strategy | None) -> Mode:
    """Whether devices are told to serve the version, or to run it in shadow."""
    return Mode.SHADOW if strategy is Strategy.SHADOW else Mode.LIVE


def groups_of(spec: StrategySpec) -> tuple[GroupSpec, ...]:
    """The groups that a strategy stands for; error `rollout.invalid` for options that it does not have."""
    for option in ("steps", "step", "start", "factor", "share"):
        if getattr(spec, option) is not None and option not in _OPTIONS.get(spec.name, set()):
            raise invalid(f"strategy.{option}", f"{spec.name} has no such option")
    return {
        Strategy.CANARY: _canary,
        Strategy.LINEAR: _linear,
        Strategy.EXPONENTIAL: _exponential,
        Strategy.ALL_AT_ONCE: lambda _: (GroupSpec(name="all", percent=100),),
        Strategy.BLUE_GREEN: _blue_green,
        Strategy.SHADOW: _shadow,
    }[spec.name](spec)


def _canary(spec: StrategySpec) -> tuple[GroupSpec, ...]:
    return _waves(spec.steps or _CANARY_STEPS)


def _linear(spec: StrategySpec) -> tuple[GroupSpec, ...]:
    step_bp = basis_points(spec.step if spec.step is not None else 20, "strategy.step", low=100)
    return _waves([bp / 100 for bp in (*range(step_bp, 10_000, step_bp), 10_000)], first="wave-1")


def _exponential(spec: StrategySpec) -> tuple[GroupSpec, ...]:
    share_bp = basis_points(spec.start if spec.start is not None else 1, "strategy.start", low=1)
    steps = []
    while share_bp < 10_000:
        steps.append(share_bp / 100)
        share_bp *= spec.factor or 4
    return _waves([*steps, 100])


def _waves(steps: Sequence[Amount], first: str = "canary") -> tuple[GroupSpec, ...]:
    beginning = GroupSpec(name=first, percent=steps[0], bake_s=_CANARY_BAKE)
    return (beginning, *(GroupSpec(name=f"wave-{no}", percent=step) for no, step in enumerate(steps[1:], 2)))


def _blue_green(_: StrategySpec) -> tuple[GroupSpec, ...]:
    return (
        GroupSpec(name="canary", percent=1, bake_s=_CANARY_BAKE),
        GroupSpec(name="switch", percent=100, prepare=True, approve=True),
    )


def _shadow(spec: StrategySpec) -> tuple[GroupSpec, ...]:
    return (GroupSpec(name="shadow", percent=spec.share if spec.share is not None else 10, bake_s=_SHADOW_BAKE),)


# --- gates ----------------------------------------------------------------------------------------------------------
_LIVE_GATES = (
    GateSpec(metric="crash_rate", operator=Operator.AT_MOST, threshold="2%", min_sample=20),
    GateSpec(
        metric="error_rate",
        operator=Operator.AT_MOST,
        threshold="1%",
        compare=Compare.CONTROL,
        fallback="5%",
        min_sample=100,
    ),
    GateSpec(metric="latency_p95", operator=Operator.AT_MOST, threshold="5%", min_sample=100),
)
_SHADOW_GATES = (
    GateSpec(metric="shadow_disagreement", operator=Operator.AT_MOST, threshold="5%", window_s="24h", min_sample=500),
    GateSpec(metric="shadow_error_rate", operator=Operator.AT_MOST, threshold="1%", window_s="24h", min_sample=500),
    GateSpec(metric="shadow_latency_p95", operator=Operator.AT_MOST, threshold="5%", window_s="24h", min_sample=500),
)


def default_gates(strategy: Strategy) -> tuple[GateSpec, ...]:
    """What a ready strategy is held to when no gates are given. `gates: []` says: none, on purpose."""
    return _SHADOW_GATES if strategy is Strategy.SHADOW else _LIVE_GATES
