"""What a device sends: an envelope with a per-device sequence number around one body.

Topic `fleet/<device>/up/<kind>`, QoS 1. The hub applies bodies strictly in sequence and confirms the highest
sequence committed without a gap (`down.Watermark`); the device keeps everything above it. `epoch` names the device's
outbox: a device whose storage was lost starts a new epoch at 1.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.wire.health import Health
from shared.wire.system import System
from shared.wire.training import SampleCount, TrainingReport
from shared.wire.types import (
    Code,
    Count,
    DeviceId,
    Epoch,
    ModelName,
    Seq,
    Sha256,
    Text,
    TimeS,
    Traceparent,
    Version,
    Word,
)
from shared.wire.window import Metrics, Window

__all__ = [
    "BODIES",
    "Dropped",
    "Envelope",
    "Event",
    "Heartbeat",
    "InstallReport",
    "InstallTrace",
    "Inventory",
    "Kind",
    "ModelStatus",
    "decode_body",
    "decode_envelope",
    "encode_body",
    "encode_envelope",
]

Kind = Literal["heartbeat", "inventory", "install", "event", "health", "window", "metrics", "training", "dropped"]
T = TypeVar("T")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `first_seq` equals `seq` except for `dropped`, which stands for a whole range."""

    schema_version: int = 1
    device_id: DeviceId
    epoch: Epoch
    first_seq: Seq
    seq: Seq
    created_s: TimeS
    kind: Kind
    body: Annotated[bytes, Meta(max_length=limits.MAX_MQTT_MESSAGE_BYTES)]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it stands on the device. Latencies in microseconds over the last heartbeat interval."""

    model: ModelName
    version: Version | None = None
    bundle_sha256: Sha256 | None = None
    state: Word = "idle"
    assignment_counter: Count = 0
    requests: Count = 0
    errors: Count = 0
    latency_p50_us: Count = 0
    latency_p99_us: Count = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sent every telemetry interval of the profile. Counters (`requests`, `errors`) are since the last heartbeat."""

    schema_version: int = 1
    agent_version: Word
    uptime_s: Count
    rss_bytes: Count = 0
    cpu_percent: float = 0.0
    disk_free_bytes: Count = 0
    outbox_count: Count = 0
    outbox_dropped: Count = 0
    models: Annotated[list[ModelStatus], Meta(max_length=limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT)] = []
    system: System | msgspec.UnsetType = msgspec.UNSET
    samples: (
        Annotated[list[SampleCount], Meta(max_length=limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT)] | msgspec.UnsetType
    ) = msgspec.UNSET


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What the device is. Sent at start and when it changes."""

    schema_version: int = 1
    profile: Word
    agent_version: Word
    runtime: Word
    runtime_version: Word
    arch: Word
    os: Word
    python: Word
    cpu_count: Count
    memory_bytes: Count
    storage_bytes: Count
    hardware_id: Word = ""


class InstallTrace(msgspec.Struct, frozen=True, kw_only=True):
    """When things happened, by the device's clock, under the traceparent that the hub sent. assigned_s: when the
    installation began. began_s: when the state `previous` did. at_s: when this transition was."""

    traceparent: Traceparent
    assigned_s: TimeS
    began_s: TimeS
    at_s: TimeS


class InstallReport(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of the install machine. `state` and `previous` are the machine's own strings."""

    schema_version: int = 1
    model: ModelName
    version: Version
    bundle_sha256: Sha256
    assignment_counter: Count
    previous: Word
    state: Word
    event: Word
    reason_code: Code = ""
    reason: Text = ""
    active_version: Version | None = None
    attempt: Count = 0
    bytes_downloaded: Count = 0
    trace: InstallTrace | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should be able to find later, for example a refused assignment."""

    schema_version: int = 1
    code: Code
    severity: Literal["info", "warning", "error"] = "info"
    message: Text
    model: ModelName | None = None
    count: Count = 1


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in the place of messages that a full outbox had to give up, so that the loss itself is counted."""

    schema_version: int = 1
    count: Seq
    kinds: Annotated[dict[Word, Count], Meta(max_length=16)] = {}


BODIES: dict[str, type[msgspec.Struct]] = {
    "heartbeat": Heartbeat,
    "inventory": Inventory,
    "install": InstallReport,
    "event": Event,
    "health": Health,
    "window": Window,
    "metrics": Metrics,
    "training": TrainingReport,
    "dropped": Dropped,
}
_DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {k: msgspec.msgpack.Decoder(v) for k, v in BODIES.items()}
_ENVELOPE = msgspec.msgpack.Decoder(Envelope)


def encode_body(body: msgspec.Struct) -> bytes:
    """MessagePack bytes of a body."""
    return msgspec.msgpack.encode(body)


def encode_envelope(envelope: Envelope) -> bytes:
    """MessagePack bytes of an envelope; `wire.too_large` when over the MQTT bound."""
    data = msgspec.msgpack.encode(envelope)
    if len(data) > limits.MAX_MQTT_MESSAGE_BYTES:
        raise TooLarge("wire.too_large", f"A message of {len(data)} bytes is over {limits.MAX_MQTT_MESSAGE_BYTES}.")
    return data


def decode_envelope(data: bytes) -> Envelope:
    """The envelope in `data`; errors `wire.too_large`, `wire.malformed`."""
    if len(data) > limits.MAX_MQTT_MESSAGE_BYTES:
        raise TooLarge("wire.too_large", f"A message of {len(data)} bytes is over {limits.MAX_MQTT_MESSAGE_BYTES}.")
    try:
        envelope = _ENVELOPE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("wire.malformed", f"The message is not an envelope: {error}."[:300]) from error
    if envelope.first_seq > envelope.seq or (envelope.kind != "dropped" and envelope.first_seq != envelope.seq):
        raise InvalidInput("wire.malformed", "The sequence range of the message is not valid.")
    return envelope


def decode_body(envelope: Envelope) -> msgspec.Struct:
    """The body of an envelope by its kind; error `wire.malformed`."""
    try:
        body: msgspec.Struct = _DECODERS[envelope.kind].decode(envelope.body)
        return body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("wire.malformed", f"The {envelope.kind} body is malformed: {error}."[:300]) from error
