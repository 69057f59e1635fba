"""A rollout as people write it: YAML or JSON, one document, every field typed and named in errors.

Rules: bounded, then read strictly (no duplicate keys, no anchors), then typed; a field that nobody knows is refused
with the nearest known one. What the fields mean together is checked in `hub.rollouts.planning`. Errors:
`rollout.invalid` with the field in `detail`, `rollout.too_large`, `yaml.malformed`, `json.malformed`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub.rollouts.amounts import Amount, invalid
from hub.rollouts.plan import AtEnd, Compare, OnFailure, OnInconclusive, Operator, Scope, Strategy
from shared import canonical, ids, limits, strict_yaml
from shared.errors import InvalidInput, TooLarge
from shared.field_errors import describe

__all__ = ["Definition", "EachGroup", "GateSpec", "GroupSpec", "RateSpec", "RetrySpec", "ShadowSpec", "StrategySpec"]
__all__ += ["TargetsSpec", "WindowSpec", "definition_of", "parse_definition"]

Count = Annotated[int, Meta(ge=1, le=10**9)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
Filter = Annotated[str, Meta(min_length=1, max_length=limits.MAX_FILTER_CHARS)]
Devices = Annotated[
    tuple[Annotated[str, Meta(pattern=ids.DEVICE_PATTERN)], ...],
    Meta(min_length=1, max_length=limits.MAX_ROLLOUT_DEVICES_COUNT),
]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a definition share."""


class TargetsSpec(_Strict, frozen=True, kw_only=True):
    """Who may get the version: one of the three."""

    filter: Filter | None = None
    group: Annotated[str, Meta(pattern=ids.GROUP_PATTERN)] | None = None
    devices: Devices | None = None


class StrategySpec(_Strict, frozen=True, kw_only=True):
    """A ready strategy with its options: `steps` (canary), `step` (linear), `start` and `factor` (exponential), `share`
    (shadow). Percentages."""

    name: Strategy
    steps: Annotated[tuple[Amount, ...], Meta(min_length=1, max_length=limits.MAX_ROLLOUT_GROUPS_COUNT)] | None = None
    step: Amount | None = None
    start: Amount | None = None
    factor: Annotated[int, Meta(ge=2, le=100)] | None = None
    share: Amount | None = None


class EachGroup(_Strict, frozen=True, kw_only=True):
    """What may be said for every group at once, or for one."""

    min_devices: Count | None = None
    success_percent: Amount | None = None
    error_percent: Amount | None = None
    max_failures: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    min_sample: Count | None = None
    observe_s: Amount | None = None
    bake_s: Amount | None = None
    approve: bool | None = None
    prepare: bool | None = None
    count_unreached: bool | None = None


class GroupSpec(EachGroup, frozen=True, kw_only=True):
    """One wave: a cumulative `percent`, or a `filter`, or `devices`."""

    name: Name
    percent: Amount | None = None
    filter: Filter | None = None
    devices: Devices | None = None


class GateSpec(_Strict, frozen=True, kw_only=True):
    """One demand on what devices report after the install."""

    metric: Annotated[str, Meta(min_length=1, max_length=64)]
    operator: Operator
    threshold: Amount
    compare: Compare = Compare.CONSTANT
    fallback: Amount | None = None
    window_s: Amount = 3600
    min_sample: Count
    per_profile: bool = True
    on_fail: OnFailure | None = None
    on_inconclusive: OnInconclusive = OnInconclusive.WAIT


class RateSpec(_Strict, frozen=True, kw_only=True):
    """Devices per minute; with `factor`, `every` and `cap` growing."""

    per_minute: Annotated[int, Meta(ge=1, le=10**7)]
    factor: Amount | None = None
    every: Count | None = None
    cap: Annotated[int, Meta(ge=1, le=10**7)] | None = None
    count: Literal["assigned", "succeeded"] = "assigned"


class WindowSpec(_Strict, frozen=True, kw_only=True):
    """When a version may become active. `timezone`: an IANA name, or `device`."""

    cron: Annotated[str, Meta(min_length=1, max_length=limits.MAX_CRON_CHARS)]
    duration_s: Amount
    timezone: Annotated[str, Meta(min_length=1, max_length=64)]


class RetrySpec(_Strict, frozen=True, kw_only=True):
    """`attempts` in all, the first included."""

    attempts: Annotated[int, Meta(ge=1, le=20)]
    backoff_s: Amount = 900


class ShadowSpec(_Strict, frozen=True, kw_only=True):
    """How much a shadow may do on each device: `share` of inferences, `cpu` of one core; percentages."""

    share: Amount = 10
    cpu: Amount = 5
    tolerance: Amount = 0


class Definition(_Strict, frozen=True, kw_only=True):
    """All of it; `docs/rollouts.md` is the reference."""

    schema_version: Literal[1] = 1
    model: Annotated[str, Meta(pattern=ids.MODEL_PATTERN)]
    version: Annotated[int, Meta(ge=1, le=ids.MAX_VERSION)]
    targets: TargetsSpec
    strategy: Strategy | StrategySpec | None = None
    groups: Annotated[tuple[GroupSpec, ...], Meta(min_length=1, max_length=limits.MAX_ROLLOUT_GROUPS_COUNT)] | None = (
        None
    )
    each_group: EachGroup = EachGroup()
    gates: Annotated[tuple[GateSpec, ...], Meta(max_length=limits.MAX_ROLLOUT_GATES_COUNT)] | None = None
    on_failure: OnFailure = OnFailure.ROLL_BACK
    scope: Scope = Scope.ALL
    rate: RateSpec | None = None
    max_concurrent_downloads: Count | None = None
    window: WindowSpec | None = None
    start_at: str | None = None
    end_at: str | None = None
    at_end: AtEnd = AtEnd.STOP_ASSIGNING
    retry: RetrySpec | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] = 0
    allow_new_devices: bool | None = None
    shadow: ShadowSpec | None = None
    note: Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)] = ""


def parse_definition(data: bytes) -> Definition:
    """A definition from the bytes of a YAML or JSON document."""
    if len(data) > limits.MAX_ROLLOUT_BYTES:
        raise TooLarge("rollout.too_large", f"The rollout has more than {limits.MAX_ROLLOUT_BYTES} bytes.")
    if data.lstrip().startswith(b"{"):
        return definition_of(canonical.loads(data, limit=limits.MAX_ROLLOUT_BYTES, what="rollout"))
    return definition_of(strict_yaml.load(data, what="The rollout"))


def definition_of(values: Any) -> Definition:
    """A definition from plain values."""
    if not isinstance(values, dict):
        raise invalid("rollout", "it is not a mapping with fields such as model, version, targets, strategy")
    try:
        return msgspec.convert(values, Definition)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from error


_WORDS: dict[str, type[StrEnum]] = {
    "strategy": Strategy,
    "name": Strategy,
    "operator": Operator,
    "compare": Compare,
    "on_failure": OnFailure,
    "on_fail": OnFailure,
    "on_inconclusive": OnInconclusive,
    "scope": Scope,
    "at_end": AtEnd,
}
_SPECS = (Definition, TargetsSpec, StrategySpec, GroupSpec, GateSpec, RateSpec, WindowSpec, RetrySpec, ShadowSpec)


def _named(text: str) -> InvalidInput:
    """msgspec's message, with the field first and in the words of a definition."""
    known = (name for spec in _SPECS for name in spec.__struct_fields__)
    found = describe(text, known, _WORDS, reference="docs/rollouts.md lists the fields.")
    hint = "Nothing is guessed where a rollout could do harm." if found.missing else found.hint
    return invalid(found.field or "rollout", found.problem, hint)
