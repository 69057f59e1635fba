"""Whether this device trains now: its profile against what it reads of itself. Pure.

Rules: what a rule asks for and the device cannot say is a refusal, never a guess, and so is what is no number; only a
temperature may be unknown where the profile says mains or PoE, because many such boards have no sensor. The first
refusal in a fixed order is told, so the same readings always give the same code; what no wait would change comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.profiles import Profile
from shared.wire.training import Promise

__all__ = ["DECLINED", "Decision", "Demands", "Readings", "Wanted", "decide", "still_holds"]

DECLINED: Mapping[str, str] = {
    "training.not_allowed": "The profile does not allow training.",
    "training.switched_off": "Training is switched off on this device, or samples are not kept.",
    "training.not_installed": "The software for training is not installed.",
    "training.promise": "The hub promises less privacy than the owner of this device demands.",
    "training.too_long": "The task takes longer than the profile allows.",
    "training.link_slow": "The link is too slow for the task.",
    "training.too_large": "The task needs more memory than the profile allows.",
    "training.model_missing": "The version to train is not the one that serves here.",
    "training.few_samples": "There are too few samples.",
    "training.few_classes": "There are samples of too few classes.",
    "training.busy": "The device trains or installs already.",
    "training.resting": "Training failed here a moment ago.",
    "training.window_closed": "It is outside the maintenance window.",
    "training.metered": "The link is metered.",
    "training.on_battery": "The device runs on its battery.",
    "training.battery_low": "The battery is too low.",
    "training.too_hot": "The device is too hot.",
    "training.not_idle": "The device has other work.",
    "training.cpu_busy": "The processor is too busy.",
    "training.memory_low": "Too little memory is free.",
    "training.disk_low": "Too little disk is free.",
}
"""Every code, in the order in which they are looked for."""
_MIB = 1024 * 1024
_HALF_PERCENT = 50.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the hub asks for. bytes: to be sent and received. classes: that must have samples."""

    model: str
    version: int
    seconds: float
    memory_bytes: int
    bytes: int = 0
    min_samples: int = 1
    classes: int = 2
    promise: Promise = field(default_factory=Promise)


@dataclass(frozen=True, slots=True)
class Demands:
    """What the device's owner says: demands of the hub (sums only, so much noise added on the device), and how busy
    the processor may be with other work (percent; 0: as the profile has it)."""

    secure_aggregation: bool = False
    client_noise: float = 0.0
    busy_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Readings:
    """The device now; None is what it cannot say.

    serving: the versions that serve, by model. samples: of the model, by class. metered: what the link in use says,
    None: as the profile has it. on_mains: None where the device cannot say. idle: no prediction for a while.
    in_window: whether the maintenance window is open; None: there is none. busy: it trains or installs.
    installed: the software for training is there. rest_s: for so long it takes no offer after a failure.
    opens_in_s, idle_in_s, free_in_s: when the window opens, when the device is idle if nothing more is asked of it,
    when the work in hand is over at the latest; None: not known.
    """

    enabled: bool
    serving: Mapping[str, int]
    samples: Mapping[int, int]
    installed: bool = True
    busy: bool = False
    rest_s: float = 0.0
    opens_in_s: float | None = None
    idle_in_s: float | None = None
    free_in_s: float | None = None
    in_window: bool | None = None
    metered: bool | None = None
    on_mains: bool | None = None
    battery_percent: float | None = None
    temperature_c: float | None = None
    idle: bool | None = None
    cpu_percent: float | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """accepted, or why not: a code of `DECLINED` (empty when accepted) and words with the figures.

    retry_s: when it makes sense to ask again, as far as the device can tell; 0: it cannot.
    """

    accepted: bool
    code: str = ""
    reason: str = ""
    retry_s: float = 0.0


_NOTHING = Demands()


def decide(profile: Profile, wanted: Wanted, readings: Readings, demands: Demands = _NOTHING) -> Decision:
    """Accept, or the first reason not to."""
    checks = [
        *_lasting(profile, wanted, readings, demands),
        *_passing(profile, readings, demands),
        *_room(profile, wanted, readings),
    ]
    return _first(checks, readings)


def still_holds(profile: Profile, readings: Readings, demands: Demands = _NOTHING) -> Decision:
    """Whether a device that trains may go on: what may change in an hour, but for its own work."""
    own = {"training.busy", "training.resting"}
    return _first([check for check in _passing(profile, readings, demands) if check[0] not in own], readings)


Check = tuple[str, bool | str]


def _first(checks: list[Check], readings: Readings) -> Decision:
    for code, refused in checks:
        if refused:
            more = refused if isinstance(refused, str) else ""
            return Decision(False, code, f"{DECLINED[code]} {more}".strip(), _retry_s(code, readings))
    return Decision(True)


def _retry_s(code: str, readings: Readings) -> float:
    known = {
        "training.window_closed": readings.opens_in_s,
        "training.not_idle": readings.idle_in_s,
        "training.busy": readings.free_in_s,
        "training.resting": readings.rest_s,
    }
    return max(0.0, known.get(code) or 0.0)


def _promised_less(promise: Promise, demands: Demands) -> bool | str:
    if demands.secure_aggregation and not promise.secure_aggregation:
        return "It demands secure aggregation."
    if promise.client_noise >= demands.client_noise:
        return False
    return f"It demands noise of {demands.client_noise:.4g}; promised is {promise.client_noise:.4g}."


def _lasting(profile: Profile, wanted: Wanted, readings: Readings, demands: Demands) -> list[Check]:
    """What a wait of minutes does not change."""
    rules = profile.training
    samples = sum(readings.samples.values())
    need = max(rules.min_samples, wanted.min_samples)
    classes = sum(1 for count in readings.samples.values() if count > 0)
    seconds = wanted.seconds + wanted.bytes / profile.link.bytes_per_s
    served = readings.serving.get(wanted.model)
    return [
        ("training.not_allowed", not rules.allowed),
        ("training.switched_off", not readings.enabled),
        ("training.not_installed", not readings.installed),
        ("training.promise", _promised_less(wanted.promise, demands)),
        ("training.too_long", _above(wanted.seconds, rules.max_duration_s, "s")),
        ("training.link_slow", _above(seconds, rules.max_duration_s, "s with what is to be sent")),
        ("training.too_large", _above(wanted.memory_bytes / _MIB, rules.max_memory_bytes / _MIB, "MiB")),
        ("training.model_missing", served != wanted.version and f"Version {served} serves, not {wanted.version}."),
        ("training.few_samples", samples < need and f"There are {samples} of {need}."),
        ("training.few_classes", classes < wanted.classes and f"There are {classes} of {wanted.classes}."),
    ]


def _passing(profile: Profile, readings: Readings, demands: Demands) -> list[Check]:
    """What may be otherwise in an hour."""
    rules, power = profile.training, profile.power
    metered = profile.link.metered if readings.metered is None else readings.metered
    wired = power.source in ("mains", "poe")
    on_mains = wired if readings.on_mains is None else readings.on_mains
    return [
        ("training.busy", readings.busy),
        ("training.resting", readings.rest_s > 0),
        ("training.window_closed", profile.maintenance_window is not None and readings.in_window is not True),
        ("training.metered", rules.unmetered_only and metered),
        ("training.on_battery", rules.mains_only and not on_mains),
        ("training.battery_low", not on_mains and _below(readings.battery_percent, power.min_battery_percent, "%")),
        ("training.too_hot", _too_hot(readings.temperature_c, power.max_temperature_c, wired=wired)),
        ("training.not_idle", rules.idle_only and readings.idle is not True),
        ("training.cpu_busy", _too_busy(readings.cpu_percent, rules.max_cpu_percent, demands)),
    ]


def _room(profile: Profile, wanted: Wanted, readings: Readings) -> list[Check]:
    free_bytes = profile.min_free_bytes + wanted.bytes
    return [
        ("training.memory_low", _below(_mib(readings.memory_available_bytes), wanted.memory_bytes / _MIB, "MiB")),
        ("training.disk_low", _below(_mib(readings.disk_free_bytes), free_bytes / _MIB, "MiB")),
    ]


def _mib(count: int | None) -> float | None:
    return None if count is None else count / _MIB


def _above(value: float, most: float, unit: str) -> bool | str:
    """Refused when it is above `most`, or no number."""
    return False if value <= most else f"It is {value:.4g} {unit}; at most {most:.4g}."


def _below(value: float | None, least: float, unit: str) -> bool | str:
    """Refused when it is below `least`, no number, or not known."""
    if value is None:
        return f"It is not known; at least {least:.4g} {unit}."
    return False if value >= least else f"It is {value:.4g} {unit}; at least {least:.4g}."


def _too_hot(value: float | None, most: float, *, wired: bool) -> bool | str:
    if value is None:
        return False if wired else f"The temperature is not known; at most {most:.4g} °C."
    return False if value < most else f"It is {value:.4g} °C; below {most:.4g}."


def _too_busy(value: float | None, share: float, demands: Demands) -> bool | str:
    """Refused when what others use leaves less than training's share, or less than half of the processor; or by what
    the owner says instead."""
    most = demands.busy_percent or max(100.0 - share, _HALF_PERCENT)
    if value is None:
        return f"It is not known how busy it is; at most {most:.4g} %."
    return _above(value, most, "%")
