"""Firmware profiles: what a class of device can do and may be asked to do, as data.

A profile is YAML in `firmware_profiles/` or a file of the user's own; the struct below is the schema, and
`firmware_profiles/schema.json` is generated from it. Units are in the names. What a profile does not say is refused,
not guessed: an operation that is not listed does not exist on the device.
"""

from __future__ import annotations

import inspect
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared import limits, strict_yaml
from shared.bundle.manifest import Requirements
from shared.errors import Conflict, InvalidInput, NotFound, TooLarge

__all__ = [
    "Link",
    "MaintenanceWindow",
    "Power",
    "Profile",
    "RuntimeSupport",
    "Training",
    "check_requirements",
    "load_profile",
    "profile_names",
    "profile_schema",
]

_PACKAGE = "firmware_profiles"
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}\Z"
_CRON = r"^[0-9*/,A-Za-z-]+( [0-9*/,A-Za-z-]+){4}\Z"
_ZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}\Z"

Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Percent = Annotated[int, Meta(ge=0, le=100)]
OpName = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]{0,63}\Z")]
OpVersion = Annotated[int, Meta(ge=1, le=1000)]


class RuntimeSupport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The runtime on the device: the package that provides it, and the highest version of each operation."""

    name: Literal["tflite"] = "tflite"
    package: Literal["ai-edge-litert", "tflite-runtime"] = "ai-edge-litert"
    min_version: Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){1,2}\Z")]
    ops: Annotated[dict[OpName, OpVersion], Meta(min_length=1, max_length=512)]


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the device reaches the hub; `cost_per_mib` is in the fleet's own currency."""

    link_class: Literal["ethernet", "wifi", "cellular", "satellite", "lora"] = msgspec.field(name="class")
    bytes_per_s: Annotated[int, Meta(ge=1, le=10**11)]
    cost_per_mib: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    metered: bool = False


class Power(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What feeds the device, and when it is too hot or too empty for work that can wait."""

    source: Literal["mains", "poe", "battery", "solar", "vehicle"]
    max_temperature_c: Annotated[float, Meta(ge=-40, le=150)]
    min_battery_percent: Percent = 0


class MaintenanceWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When updates may be activated: five cron fields for the start, in an IANA time zone."""

    cron: Annotated[str, Meta(pattern=_CRON, max_length=128)]
    duration_s: Annotated[int, Meta(ge=60, le=7 * 86400)]
    timezone: Annotated[str, Meta(pattern=_ZONE, max_length=64)] = "UTC"


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and under which conditions the device may train on its own samples."""

    allowed: bool
    min_samples: Annotated[int, Meta(ge=1, le=10**9)] = 100
    idle_only: bool = True
    unmetered_only: bool = True
    mains_only: bool = True
    max_cpu_percent: Annotated[int, Meta(ge=1, le=100)] = 50
    max_memory_bytes: Bytes = 128 * limits.MIB
    max_duration_s: Annotated[int, Meta(ge=1, le=86400)] = 600


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A class of devices.

    memory_bytes: all of the device. agent_memory_bytes, model_memory_bytes: what agent and loaded models may take.
    storage_bytes: what models, partial downloads and the outbox may take together; min_free_bytes stays free of that
    file system. threads: for inference. latency_p99_ms: the budget for one prediction that a new version must keep.
    """

    name: Annotated[str, Meta(pattern=_NAME)]
    title: Annotated[str, Meta(min_length=1, max_length=128)]
    arch: Literal["x86_64", "aarch64", "armv7l"]
    memory_bytes: Bytes
    agent_memory_bytes: Bytes
    model_memory_bytes: Bytes
    storage_bytes: Bytes
    min_free_bytes: Bytes
    outbox_bytes: Bytes
    threads: Annotated[int, Meta(ge=1, le=256)]
    runtime: RuntimeSupport
    latency_p99_ms: Annotated[float, Meta(gt=0, le=600_000)]
    link: Link
    power: Power
    telemetry_interval_s: Annotated[int, Meta(ge=1, le=86400)]
    training: Training
    maintenance_window: MaintenanceWindow | None = None

    def __post_init__(self) -> None:
        if self.agent_memory_bytes + self.model_memory_bytes > self.memory_bytes:
            raise ValueError("agent_memory_bytes and model_memory_bytes together are more than memory_bytes")
        if self.outbox_bytes >= self.storage_bytes:
            raise ValueError("outbox_bytes leaves no room in storage_bytes")


def profile_names() -> list[str]:
    """The names of the profiles that come with Skerry, sorted."""
    entries = resources.files(_PACKAGE).iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile of that name, or from a YAML file when a path is given (a `Path`, or text with `/` or `.yaml`).

    Errors: `profile.unknown`, `profile.invalid` (names the field), `profile.too_large`, `yaml.*`.
    """
    if isinstance(name_or_path, Path) or "/" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        return _convert(strict_yaml.load_file(path, limit=limits.MAX_PROFILE_BYTES), path.name)
    if not re.match(_NAME, name_or_path) or name_or_path not in profile_names():
        raise NotFound(
            "profile.unknown",
            f"There is no firmware profile {name_or_path!r:.80}.",
            hint=f"Known: {', '.join(profile_names())}. A file of your own is given by its path.",
        )
    data = resources.files(_PACKAGE).joinpath(f"{name_or_path}.yaml").read_bytes()
    if len(data) > limits.MAX_PROFILE_BYTES:
        raise TooLarge("profile.too_large", f"{name_or_path}.yaml is larger than {limits.MAX_PROFILE_BYTES} bytes.")
    return _convert(strict_yaml.load(data, what=f"{name_or_path}.yaml"), f"{name_or_path}.yaml")


def _convert(document: Any, source: str) -> Profile:
    try:
        return msgspec.convert(document, Profile)
    except msgspec.ValidationError as error:
        raise InvalidInput(
            "profile.invalid",
            f"The firmware profile {source} is not valid: {error}."[:300],
            hint="firmware_profiles/schema.json describes every field; editors can check against it.",
        ) from error


def check_requirements(profile: Profile, requirements: Requirements) -> None:
    """Return when the device class can run a version with these requirements, else raise `Conflict`.

    Codes: `profile.runtime`, `profile.memory`, `profile.op_missing`, `profile.op_version`.
    """
    runtime = profile.runtime
    if requirements.runtime != runtime.name:
        raise _unfit(profile, "runtime", f"The version needs the runtime {requirements.runtime}, not {runtime.name}.")
    if requirements.memory_bytes > profile.model_memory_bytes:
        need, have = requirements.memory_bytes, profile.model_memory_bytes
        raise _unfit(profile, "memory", f"The version needs {need} bytes of memory; models may take {have}.")
    missing = sorted(op for op in requirements.ops if op not in runtime.ops)
    if missing:
        raise _unfit(profile, "op_missing", f"The runtime lacks {', '.join(missing)}.", ops=missing)
    newer = sorted(op for op, version in requirements.ops.items() if version > runtime.ops[op])
    if newer:
        shown = ", ".join(f"{op} v{requirements.ops[op]} (at most v{runtime.ops[op]})" for op in newer)
        raise _unfit(profile, "op_version", f"The runtime is too old for {shown}.", ops=newer)


def _unfit(profile: Profile, code: str, message: str, **detail: Any) -> Conflict:
    return Conflict(
        f"profile.{code}",
        f"{message} (firmware profile {profile.name})"[:300],
        hint="Convert the model for this class of device, or deploy to another.",
        detail={"profile": profile.name, **detail},
    )


def profile_schema() -> bytes:
    """The JSON Schema of a profile file, for editors."""
    schema = msgspec.json.schema(Profile)
    for definition in schema["$defs"].values():
        definition["description"] = inspect.cleandoc(definition["description"])
        for field in definition.get("properties", {}).values():
            if "anyOf" in field:
                field["anyOf"].sort(key=msgspec.json.encode)  # msgspec's order differs between its versions
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Skerry firmware profile", **schema}
    # Editors read ECMA-262 patterns, in which the end of the text is `$`.
    text = msgspec.json.encode(schema).replace(rb"\\Z", b"$")
    return msgspec.json.format(text, indent=2) + b"\n"
