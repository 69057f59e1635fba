"""What the hub and the worker process of a run say to each other, both ways, for as long as the run lasts.

Form: four bytes with the length (big-endian), then that many of MessagePack. Rules: the bound is enforced before a body
is read; a frame that is not as expected ends the conversation; an end in the middle of a frame is an end.
"""

from __future__ import annotations

from typing import Annotated, BinaryIO, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from hub.federated.definition import RunDefinition
from hub.federated.evaluation import DeviceEvaluation
from hub.federated.report import PrivacySpent, RoundReport
from shared import limits
from shared.errors import ErrorBody, InvalidInput

__all__ = [
    "Abandoned",
    "Ask",
    "Begin",
    "Cancel",
    "Complete",
    "Declined",
    "Ended",
    "Enrol",
    "Evaluated",
    "FromHub",
    "FromWorker",
    "Listening",
    "Participant",
    "Remove",
    "Reserved",
    "read_from_hub",
    "read_from_worker",
    "write",
]


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """A device that may take part: its public key (SubjectPublicKeyInfo, DER), samples, and group (its profile).

    cost_per_mib: of its link, in the fleet's own currency.
    """

    device_id: str
    public_key: bytes
    samples: int
    group: str = ""
    cost_per_mib: float = 0.0


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Do this run, from this checkpoint. Listen on `host` and `port` with the certificate; paths are absolute.

    program: a Flower app (FAB) that stock nodes fetch and run; empty: none can take part. device_ca: the certificate
    (DER) of the authority of the devices, by which they know each other's keys in secure aggregation.
    """

    definition: RunDefinition
    sizes: Annotated[tuple[int, ...], Meta(min_length=1, max_length=limits.MAX_FEDERATED_TENSORS_COUNT)]
    checkpoint: bytes
    participants: Annotated[list[Participant], Meta(max_length=limits.MAX_FEDERATED_DEVICES_COUNT)]
    host: str
    port: int
    certificate: str
    key: str
    ca: str
    program: bytes = b""
    device_ca: bytes = b""


class Enrol(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """More devices may take part, or what is known of some has changed."""

    participants: Annotated[list[Participant], Meta(max_length=limits.MAX_FEDERATED_DEVICES_COUNT)]


class Declined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The device will not take part in this round."""

    device_id: str


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The device is out of the federation at once."""

    device_id: str


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """End the run; its last checkpoint stands."""


class Listening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Devices can connect to this port from now on."""

    port: int


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Offer the round to these devices."""

    round_no: int
    device_ids: list[str]


class Complete(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A round is complete; from this checkpoint the run can go on."""

    report: RoundReport
    checkpoint: bytes


class Reserved(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Privacy was paid for, before devices answer; no round is complete, but only from here the run may go on."""

    privacy: PrivacySpent | None
    checkpoint: bytes


class Abandoned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A round did not count."""

    report: RoundReport


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """After the last round, before `Ended`: what those of the asked devices measured that answered."""

    asked: int
    bytes_down: int
    devices: Annotated[list[DeviceEvaluation], Meta(max_length=limits.MAX_FEDERATED_DEVICES_COUNT)]


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The run is over: finished or cancelled, or failed for this error.

    One that finished before its last round says why there (`federated.privacy_spent`); its weights are as good.
    """

    end: str
    error: ErrorBody | None = None


M = TypeVar("M")
FromHub: TypeAlias = Begin | Enrol | Declined | Remove | Cancel
FromWorker: TypeAlias = Listening | Ask | Complete | Reserved | Abandoned | Evaluated | Ended
_ENCODER = msgspec.msgpack.Encoder()
_FROM_HUB: msgspec.msgpack.Decoder[FromHub] = msgspec.msgpack.Decoder(FromHub)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def write(stream: BinaryIO, message: FromHub | FromWorker) -> None:
    """Write one frame and flush it."""
    body = _ENCODER.encode(message)
    if len(body) > limits.MAX_FEDERATED_FRAME_BYTES:
        raise InvalidInput("federated.frame", f"A message of {len(body)} bytes is too large for a run's worker.")
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


def read_from_hub(stream: BinaryIO) -> FromHub | None:
    """The hub's next message; None at the end. Error `federated.frame`."""
    return _read(stream, _FROM_HUB)


def read_from_worker(stream: BinaryIO) -> FromWorker | None:
    """The worker's next message; None at the end. Error `federated.frame`."""
    return _read(stream, _FROM_WORKER)


def _read(stream: BinaryIO, decoder: msgspec.msgpack.Decoder[M]) -> M | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    if length > limits.MAX_FEDERATED_FRAME_BYTES:
        raise InvalidInput("federated.frame", f"A run's worker announced a message of {length} bytes.")
    body = stream.read(length)
    if len(body) < length:
        return None
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("federated.frame", f"A message between hub and worker is malformed: {error}.") from error
