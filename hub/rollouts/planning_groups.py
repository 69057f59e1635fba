"""The groups of a plan: what was said for one group, then for each, then the defaults of a ready strategy."""

from __future__ import annotations

from collections.abc import Sequence

from hub.rollouts.amounts import Amount, basis_points, invalid, seconds
from hub.rollouts.definition import EachGroup, GroupSpec
from hub.rollouts.plan import Group, Mode
from hub.rollouts.strategies import DEFAULTS

__all__ = ["plan_groups"]

_DAY_S = 86400
_WHOLE_BP = 10_000


def plan_groups(specs: Sequence[GroupSpec], each: EachGroup, *, ready: bool, mode: Mode) -> tuple[Group, ...]:
    """The groups in their order. ready: of a ready strategy, so that defaults fill what was not said."""
    if ready and each.prepare is not None:
        raise invalid("each_group.prepare", "the strategy decides that", "Write the groups by hand instead.")
    groups = tuple(_group(f"groups[{no}]", spec, each, ready, mode) for no, spec in enumerate(specs))
    names = [group.name for group in groups]
    for no, name in enumerate(names):
        if name in names[:no]:
            raise invalid(f"groups[{no}].name", f"{name!r} is there twice")
    _check_shares(groups, mode)
    return groups


def _check_shares(groups: Sequence[Group], mode: Mode) -> None:
    """Percentages are cumulative: each above the one before, and the last one everybody."""
    before = 0
    for no, group in enumerate(groups):
        if group.percent_bp is None:
            continue
        if group.percent_bp <= before:
            shown = f"{group.percent_bp / 100:g} is not above {before / 100:g}"
            raise invalid(f"groups[{no}].percent", f"{shown}; percentages are cumulative", "Example: 1, 10, 50, 100.")
        before = group.percent_bp
    if 0 < before < _WHOLE_BP and mode is not Mode.SHADOW:
        last = max(no for no, group in enumerate(groups) if group.percent_bp is not None)
        hint = "To reach only a part of a fleet, narrow the targets."
        raise invalid(f"groups[{last}].percent", "the last percentage is not 100", hint)


def _group(field: str, spec: GroupSpec, each: EachGroup, ready: bool, mode: Mode) -> Group:
    said = _Said(field, spec, each, ready)
    who = [name for name in ("percent", "filter", "devices") if getattr(spec, name) is not None]
    if len(who) != 1:
        raise invalid(field, "give one of percent, filter, devices")
    if spec.devices is not None and len(set(spec.devices)) != len(spec.devices):
        raise invalid(f"{field}.devices", "a device is there twice")
    prepare = bool(said.value("prepare", False))
    if prepare and mode is Mode.SHADOW:
        raise invalid(f"{field}.prepare", "a shadow never switches")
    error_bp, max_failures = _failures(said)
    return Group(
        name=spec.name,
        percent_bp=None if spec.percent is None else basis_points(spec.percent, f"{field}.percent", low=1),
        filter=spec.filter,
        devices=spec.devices,
        min_devices=int(said.value("min_devices", 1)),
        success_bp=basis_points(said.needed("success_percent"), f"{field}.success_percent", low=1),
        error_bp=error_bp,
        max_failures=max_failures,
        min_sample=int(said.value("min_sample", 1)),
        observe_s=seconds(said.value("observe_s", "24h"), f"{field}.observe_s", 60, 90 * _DAY_S),
        bake_s=seconds(said.value("bake_s", 0), f"{field}.bake_s", 0, 30 * _DAY_S),
        approve=bool(said.value("approve", False)),
        prepare=prepare,
        count_unreached=bool(said.value("count_unreached", True)),
    )


def _failures(said: _Said) -> tuple[int | None, int | None]:
    """(error_bp, max_failures): at least one limit, and one that can be exceeded. A limit that was given alone counts
    alone: the default of a strategy does not come beside it."""
    max_failures = said.given("max_failures")
    error = said.given("error_percent")
    if max_failures is None and error is None:
        error = said.needed("error_percent", "Say how many failures stop this group: error_percent or max_failures.")
    if error is None:
        return None, None if max_failures is None else int(max_failures)
    error_bp = basis_points(error, f"{said.field}.error_percent")
    if error_bp >= _WHOLE_BP and max_failures is None:
        raise invalid(f"{said.field}.error_percent", "100 never stops anything")
    return error_bp, None if max_failures is None else int(max_failures)


class _Said:
    """What was said about one group, most particular first."""

    def __init__(self, field: str, spec: GroupSpec, each: EachGroup, ready: bool) -> None:
        self.field = field
        # In a ready strategy `spec` is what the strategy itself says: what a person said for each group goes first.
        self._given: tuple[EachGroup, ...] = (each, spec) if ready else (spec, each)
        self._default = DEFAULTS if ready else None

    def given(self, name: str) -> Amount | None:
        """What somebody said, or None."""
        found = (getattr(source, name) for source in self._given)
        return next((value for value in found if value is not None), None)

    def value(self, name: str, otherwise: Amount) -> Amount:
        """What was said, or the strategy's default, or `otherwise`."""
        said = self.given(name)
        if said is None and self._default is not None:
            said = getattr(self._default, name)
        return otherwise if said is None else said

    def needed(self, name: str, hint: str = "") -> Amount:
        """What was said or the strategy's default; a hand-written group has to say it."""
        said = self.given(name)
        if said is None and self._default is not None:
            said = getattr(self._default, name)
        if said is None:
            raise invalid(f"{self.field}.{name}", "it is missing", hint or "Say it for the group or in each_group.")
        return said
