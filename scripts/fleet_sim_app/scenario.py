"""What happens on the simulated devices, as data: a YAML file, strictly read. Pure but for `load_scenario`.

Rules: an unknown key, a share outside 0 to 100, a state in which an installation cannot fail and a profile that the
fleet does not have are refused, each with the name of the field. What a rule leaves out is decided by the next rule
that fits; what none decides is good.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent.ota.machine import Event as MachineEvent
from agent.ota.machine import State, accepts
from shared import ids, limits, strict_yaml
from shared.errors import InvalidInput, NotFound

__all__ = [
    "Crash",
    "Download",
    "Errors",
    "Failure",
    "Latency",
    "Offline",
    "Rule",
    "Scenario",
    "load_scenario",
    "parse_scenario",
    "ready_scenarios",
]

_FOLDER = Path(__file__).parent / "scenarios"
Percent = Annotated[float, Meta(ge=0, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Code = Annotated[str, Meta(pattern=r"^[a-z_]+\.[a-z_]+\Z", max_length=64)]
Version = Annotated[int, Meta(ge=1, le=ids.MAX_VERSION)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses what it does not know."""


class Failure(_Strict, frozen=True, kw_only=True):
    """`share` percent of the devices fail to install, in this state and with this reason code."""

    share: Percent
    state: State
    code: Code
    reason: Annotated[str, Meta(max_length=limits.MAX_REASON_CHARS)] = "As the scenario says."

    def __post_init__(self) -> None:
        if not accepts(self.state, MachineEvent.FAILED):
            raise ValueError(f"an installation cannot fail in the state {self.state.value}")


class Crash(_Strict, frozen=True, kw_only=True):
    """The agents of `share` percent of the devices crash `after_s` seconds after the version began to serve, always."""

    share: Percent
    after_s: Annotated[float, Meta(ge=0.05, le=86400)] = 0.5


class Errors(_Strict, frozen=True, kw_only=True):
    """On `share` percent of the devices `percent` of the predictions fail."""

    percent: Percent
    share: Percent = 100.0


class Latency(_Strict, frozen=True, kw_only=True):
    """How long predictions take on `share` percent of the devices: log-normal around the median; `spread` is the
    standard deviation of the logarithm."""

    median_ms: Annotated[float, Meta(gt=0, le=600_000)]
    spread: Annotated[float, Meta(ge=0, le=3)] = 0.2
    share: Percent = 100.0


class Download(_Strict, frozen=True, kw_only=True):
    """`share` percent of the devices fetch no faster than `bytes_per_s` (0: as fast as it goes), and lose the
    connection `cuts` times on the way; they resume with a range."""

    share: Percent = 100.0
    bytes_per_s: Annotated[int, Meta(ge=0, le=10**11)] = 0
    cuts: Annotated[int, Meta(ge=0, le=20)] = 0


class Rule(_Strict, frozen=True, kw_only=True):
    """What happens with a version on a profile; None stands for every one."""

    version: Version | None = None
    profile: Name | None = None
    fail: Failure | None = None
    crash: Crash | None = None
    errors: Errors | None = None
    latency: Latency | None = None
    download: Download | None = None


class Offline(_Strict, frozen=True, kw_only=True):
    """`share` percent of the devices (of a profile) are out of reach from `after_s` seconds on, for `for_s` seconds.

    The seconds count from the moment at which the candidate is rolled out.
    """

    share: Percent
    for_s: Seconds
    after_s: Seconds = 0.0
    profile: Name | None = None


class Scenario(_Strict, frozen=True, kw_only=True):
    """One story. `profiles`: weights. `expect`: how the rollout of the candidate must end; "any" asserts nothing.

    probe_s: how long trying a version takes. bake_s: probation, as the hub's model says it.
    """

    name: Name
    description: Annotated[str, Meta(max_length=500)] = ""
    profiles: Annotated[dict[Name, Annotated[int, Meta(ge=1, le=1000)]], Meta(min_length=1, max_length=32)]
    telemetry_interval_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    requests_per_s: Annotated[float, Meta(ge=0, le=1000)] = 5.0
    probe_s: Seconds = 0.1
    bake_s: Annotated[int, Meta(ge=0, le=3600)] = 2
    rules: Annotated[list[Rule], Meta(max_length=100)] = []
    offline: Annotated[list[Offline], Meta(max_length=32)] = []
    expect: Literal["finished", "rolled_back", "any"] = "any"

    def __post_init__(self) -> None:
        named = [rule.profile for rule in self.rules] + [part.profile for part in self.offline]
        unknown = sorted({profile for profile in named if profile is not None} - self.profiles.keys())
        if unknown:
            raise ValueError(f"the fleet has no profile {unknown[0]}; it has {', '.join(sorted(self.profiles))}")


def parse_scenario(data: bytes, what: str = "scenario") -> Scenario:
    """A scenario from YAML; errors `scenario.invalid` (names the field), `scenario.too_large`, `yaml.malformed`."""
    if len(data) > limits.MAX_SETTINGS_BYTES:
        raise InvalidInput("scenario.too_large", f"A scenario has at most {limits.MAX_SETTINGS_BYTES} bytes.")
    values: Any = strict_yaml.load(data, what=what)
    try:
        return msgspec.convert(values, Scenario, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            "scenario.invalid",
            f"{what} is not valid: {error}."[:300],
            hint="docs/simulator.md explains every field.",
        ) from error


def ready_scenarios() -> list[str]:
    """The names of those that come with the simulator."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_scenario(name_or_path: str) -> Scenario:
    """A ready one by name, or a file; errors `scenario.missing` and those of `parse_scenario`."""
    path = Path(name_or_path)
    if "/" not in name_or_path and not name_or_path.endswith((".yaml", ".yml")):
        path = _FOLDER / f"{name_or_path}.yaml"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(
            "scenario.missing",
            f"There is no scenario {name_or_path}.",
            hint=f"Ready ones: {', '.join(ready_scenarios())}; or give the path of a file.",
        ) from error
    return parse_scenario(data, path.name)
