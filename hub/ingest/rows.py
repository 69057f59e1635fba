"""What ingest reads and writes about a device, as values. The store turns them into rows and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hub.ingest.sequence import Position
from shared.wire.health import VersionHealth
from shared.wire.training import SampleCount

__all__ = ["DeviceChange", "DeviceRow", "EventRow", "ModelRow", "ReportRow", "TrainingRow"]


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The hot row of an active device: where its sequence stands and what was counted so far."""

    device_id: str
    position: Position
    last_seen_s: float
    messages: int
    dropped: int
    malformed: int
    profile: str = ""


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one device. `version` is what serves, by the device's own word; latencies in microseconds.

    served_counter: of the last assignment whose version went live, whatever became of it afterwards.
    """

    model: str
    version: int | None = None
    bundle_sha256: str | None = None
    previous_version: int | None = None
    state: str = ""
    target_version: int | None = None
    counter: int = 0
    served_counter: int = 0
    reason_code: str = ""
    reason: str = ""
    bytes_downloaded: int | None = None
    requests: int = 0
    errors: int = 0
    latency_p50_us: int = 0
    latency_p99_us: int = 0
    updated_s: float = 0.0


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an install, as reported."""

    epoch: str
    seq: int
    model: str
    version: int
    counter: int
    previous: str
    state: str
    event: str
    reason_code: str
    reason: str
    device_s: float
    received_s: float


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should be able to find later."""

    epoch: str
    seq: int
    code: str
    severity: str
    message: str
    model: str | None
    count: int
    device_s: float
    received_s: float


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one offer to train."""

    epoch: str
    seq: int
    run_id: str
    round_no: int
    state: str
    code: str
    reason: str
    seconds: float
    retry_s: float
    received_s: float


class DeviceChange(msgspec.Struct, frozen=True, kw_only=True):
    """All that one batch changes about one device; `models` holds only the rows that changed.

    moved: the models of which not only counts changed, but what serves or how far an install is. samples: None: it did
    not say.
    """

    row: DeviceRow
    retired: tuple[Position, ...] = ()
    models: tuple[ModelRow, ...] = ()
    reports: tuple[ReportRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    health: tuple[VersionHealth, ...] = ()
    training: tuple[TrainingRow, ...] = ()
    samples: tuple[SampleCount, ...] | None = None
    moved: tuple[str, ...] = ()
    heartbeat: Mapping[str, Any] | None = None
    inventory: Mapping[str, Any] | None = None
