"""What the hub sends down: one retained desired-state document and small watermarks.

`fleet/<device>/down` (retained, QoS 0): `DesiredState`, always whole, newest revision wins.
`fleet/<device>/down/ack` (QoS 0): `Watermark`. Losing one costs a re-send, never a message.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.wire.types import Count, DeviceId, Epoch, ModelName, Sha256, TimeS, Traceparent, Version, Word

__all__ = [
    "ASSIGNMENT_PAYLOAD_TYPE",
    "Assignment",
    "CONDITIONAL_SCHEMA",
    "DesiredState",
    "Mode",
    "ShadowRun",
    "Watermark",
    "Window",
    "decode_desired",
    "decode_watermark",
    "encode",
]

ASSIGNMENT_PAYLOAD_TYPE = "application/vnd.skerry.assignment+json"
CONDITIONAL_SCHEMA = 2
"""`schema_version` of an assignment that is not simply to be installed and activated: agents that do not know how to
hold back refuse it instead of activating."""
Mode = Literal["live", "hold", "shadow"]
BasisPoints = Annotated[int, Meta(ge=1, le=10_000)]
T = TypeVar("T")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """When a version may become active (`shared.schedule`). timezone: an IANA name, or `device`: that of the device."""

    cron: Annotated[str, Meta(min_length=9, max_length=limits.MAX_CRON_CHARS)]
    duration_s: Annotated[int, Meta(ge=60, le=7 * 86400)]
    timezone: Annotated[str, Meta(min_length=1, max_length=64)] = "device"


class ShadowRun(msgspec.Struct, frozen=True, kw_only=True):
    """How much a candidate is tried beside the version that serves, in hundredths of a percent (10000: all).

    share_bp: of the predictions. cpu_bp: of one core, over some seconds. tolerance_ppm: by how many millionths an
    output of a regression may differ; 0: by the tolerance of the candidate's golden outputs.
    """

    share_bp: BasisPoints = 1000
    cpu_bp: BasisPoints = 500
    tolerance_ppm: Annotated[int, Meta(ge=0, le=10**12)] = 0


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """The signed sentence "this device shall run this version": the payload (canonical JSON) of a DSSE envelope.

    `counter` grows with every assignment to the device; a device refuses one at or below the highest that it has
    accepted for that model. `expires_s` bounds when an install may *start*; what is committed stays.
    `target` is the TUF target path; digest and length must equal those of the release metadata.
    `mode`: `live` (also when absent) is activated; `hold` is installed as far as that and waits for a later assignment
    of the same bundle as `live`; `shadow` waits as well, and runs beside what serves (`shadow` says how much).
    `window`: when it may be activated. With any of the three, `schema_version` is `CONDITIONAL_SCHEMA`.
    """

    schema_version: int = 1
    device_id: DeviceId
    model: ModelName
    version: Version
    counter: Count
    target: Word
    bundle_sha256: Sha256
    bundle_bytes: Annotated[int, Meta(ge=1, le=limits.MAX_BUNDLE_BYTES)]
    issued_s: TimeS
    expires_s: TimeS
    bake_s: Annotated[int, Meta(ge=0, le=30 * 86400)] = 60
    deployment: Word = ""
    mode: Mode | UnsetType = UNSET
    shadow: ShadowRun | UnsetType = UNSET
    window: Window | UnsetType = UNSET


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a device should have: signed assignments (DSSE envelopes, JSON bytes), one per model at the most.

    traceparents: by model, where a trace of the installation goes on; only when the hub traces.
    """

    schema_version: int = 1
    device_id: DeviceId
    revision: Count
    assignments: Annotated[
        list[Annotated[bytes, Meta(max_length=limits.MAX_ASSIGNMENT_BYTES)]],
        Meta(max_length=limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT),
    ] = []
    traceparents: (
        Annotated[dict[ModelName, Traceparent], Meta(max_length=limits.MAX_ASSIGNMENTS_PER_DEVICE_COUNT)] | UnsetType
    ) = UNSET


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """The hub has committed every sequence number up to and including `seq` of this epoch. hub_s: when, by its clock;
    older hubs leave it out."""

    schema_version: int = 1
    epoch: Epoch
    seq: Count
    hub_s: TimeS | UnsetType = UNSET


_DESIRED = msgspec.msgpack.Decoder(DesiredState)
_WATERMARK = msgspec.msgpack.Decoder(Watermark)


def encode(message: DesiredState | Watermark) -> bytes:
    """MessagePack bytes."""
    return msgspec.msgpack.encode(message)


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes, limit: int, what: str) -> T:
    if len(data) > limit:
        raise TooLarge("wire.too_large", f"The {what} has {len(data)} bytes; at most {limit} are accepted.")
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("wire.malformed", f"The {what} is malformed: {error}."[:300]) from error


def decode_desired(data: bytes) -> DesiredState:
    """A desired-state document; errors `wire.too_large`, `wire.malformed`."""
    return _decode(_DESIRED, data, limits.MAX_DESIRED_STATE_BYTES, "desired state")


def decode_watermark(data: bytes) -> Watermark:
    """A watermark; errors `wire.too_large`, `wire.malformed`."""
    return _decode(_WATERMARK, data, 1024, "watermark")
