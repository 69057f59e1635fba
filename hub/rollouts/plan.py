"""What a rollout will do, as integers: a definition after its strategy was expanded and every default filled in.

A plan never changes after the rollout was created. Shares are basis points (`_bp`, 10,000 are the whole) or parts per
million (`_ppm`), so that nothing on which a decision hangs is rounded. Times are whole seconds.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from shared.wire.down import ShadowRun

__all__ = [
    "DEVICE_ZONE",
    "AtEnd",
    "Compare",
    "Gate",
    "Group",
    "Mode",
    "OnFailure",
    "OnInconclusive",
    "Operator",
    "Plan",
    "Rate",
    "Retry",
    "Scope",
    "Strategy",
    "Targets",
    "Window",
]

DEVICE_ZONE = "device"
"""The time zone of a window that each device evaluates in its own zone."""


class Strategy(StrEnum):
    """Ready-made ways to expand a definition into groups."""

    CANARY = "canary"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    ALL_AT_ONCE = "all-at-once"
    BLUE_GREEN = "blue-green"
    SHADOW = "shadow"


class Mode(StrEnum):
    """What a device is told to do with the version: the optional field `mode` of its assignment."""

    LIVE = "live"
    """Download, install, serve."""
    HOLD = "hold"
    """Download, verify and stage beside the version that serves; activate when a later assignment says `live`."""
    SHADOW = "shadow"
    """Run beside the version that serves, on a share of inferences; never answer an application."""


class OnFailure(StrEnum):
    """What a failed group or gate does to the rollout."""

    PAUSE = "pause"
    ABORT = "abort"
    ROLL_BACK = "roll_back"


class Scope(StrEnum):
    """Which devices a roll-back returns: those of the group that failed, or all that the rollout reached."""

    GROUP = "group"
    ALL = "all"


class AtEnd(StrEnum):
    """What happens at `end_s` with a rollout that is not finished."""

    STOP_ASSIGNING = "stop_assigning"
    ABORT = "abort"
    ROLL_BACK = "roll_back"


class Operator(StrEnum):
    """How a gate's metric must stand to its threshold."""

    AT_MOST = "<="
    AT_LEAST = ">="


class Compare(StrEnum):
    """With what a gate compares: with its threshold alone, or with devices on other versions at the same time."""

    CONSTANT = "constant"
    CONTROL = "control"


class OnInconclusive(StrEnum):
    """What a gate without enough samples does at the end of the bake time: hold the group, or let it pass."""

    WAIT = "wait"
    PASS = "pass"


class Targets(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who may get the version: exactly one of an RSQL filter, the name of a saved group, or devices by id."""

    filter: str | None = None
    group: str | None = None
    devices: tuple[str, ...] | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One wave. Members: a cumulative share of the stable hash, or a filter, or devices; the first group that fits.

    percent_bp: share of the hash's range up to which devices belong to this group or an earlier one.
    min_devices: the share is raised until at least so many devices are in (fleets where 1 % is nobody).
    success_bp: of all members that can get it, so many must have succeeded. error_bp and max_failures: more than that
    fails the group; None: that limit is not set (one of them always is). min_sample: results from which error_bp
    counts. observe_s: after that long without a sign a device is silent or unreached. bake_s: from the success to the
    pass. approve: a person lets the next group begin. prepare: all members stage first, then switch together.
    count_unreached: devices that never took up their assignment count against success_bp.
    """

    name: str
    percent_bp: int | None = None
    filter: str | None = None
    devices: tuple[str, ...] | None = None
    min_devices: int = 1
    success_bp: int = 9000
    error_bp: int | None = None
    max_failures: int | None = None
    min_sample: int = 1
    observe_s: int = 86400
    bake_s: int = 0
    approve: bool = False
    prepare: bool = False
    count_unreached: bool = True


class Gate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One demand on what the devices report after the install: `metric operator threshold` over the last window_s.

    threshold_ppm: millionths. compare control: the version may be worse than its control by at most threshold_ppm;
    `fallback_ppm` is the constant that counts while there are too few control samples.
    per_profile: each firmware profile with enough samples is held to the same, so that one bad profile is enough.
    """

    metric: str
    operator: Operator
    threshold_ppm: int
    compare: Compare = Compare.CONSTANT
    fallback_ppm: int | None = None
    window_s: int = 3600
    min_sample: int = 100
    per_profile: bool = True
    on_fail: OnFailure = OnFailure.ROLL_BACK
    on_inconclusive: OnInconclusive = OnInconclusive.WAIT


class Rate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Devices assigned per minute. It grows by factor_percent each time `every` more devices were notified (or
    succeeded), up to cap; factor_percent 100 is a constant rate."""

    base: int
    factor_percent: int = 100
    every: int = 1
    cap: int
    on_success: bool = False


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Open for duration_s of elapsed time from each minute that `cron` names in `timezone` (IANA, or `device`)."""

    cron: str
    duration_s: int
    timezone: str


class Retry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Failed devices get it again, up to `attempts` times in all, first after backoff_s, then twice that, and so on.

    Devices that returned by themselves after the version had run are never tried again.
    """

    attempts: int = 1
    backoff_s: int = 900


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of it. Times `start_s` and `end_s` are seconds since 1970; None: at once, and without end."""

    schema_version: int = 1
    model: str
    version: int
    strategy: Strategy | None = None
    mode: Mode = Mode.LIVE
    targets: Targets
    groups: tuple[Group, ...]
    gates: tuple[Gate, ...] = ()
    on_failure: OnFailure = OnFailure.PAUSE
    scope: Scope = Scope.GROUP
    rate: Rate | None = None
    max_concurrent_downloads: int | None = None
    window: Window | None = None
    start_s: int | None = None
    end_s: int | None = None
    at_end: AtEnd = AtEnd.STOP_ASSIGNING
    retry: Retry = Retry()
    priority: int = 0
    allow_new_devices: bool = True
    shadow: ShadowRun | None = None
    note: str = ""
