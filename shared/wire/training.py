"""Training on devices, on the wire: what a device has to train on, an offer of a round, and what became of it.

`fleet/<device>/down/training` (QoS 0, not retained): `TrainingOffer`. It is not a command: the device decides, and an
offer that is lost or comes late costs one device one round. Times in it are durations, so that a device whose clock is
wrong understands it too. Weights never come this way: who accepts joins the federation at `address` and gets its task
there, with the key of its own certificate.
Upwards: `SampleCount` in the heartbeat, and a `training` message for each offer that was answered.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.wire.types import Code, Count, DeviceId, ModelName, Seq, Sha256, Text, Version, Word

__all__ = [
    "Promise",
    "SampleCount",
    "TrainingOffer",
    "TrainingReport",
    "TrainingState",
    "decode_offer",
    "encode_offer",
]

RunId = Annotated[str, Meta(pattern=r"^f-[0-9a-f]{12}\Z")]
Seconds = Annotated[float, Meta(ge=0, le=7 * 86_400)]
TrainingState = Literal["accepted", "declined", "joined", "done", "failed"]


class SampleCount(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has of one model to train on. kept: samples that can be used. seen: all that there ever were, also
    those that the reservoir has let go. classes: that have samples. personal: a head of its own serves here.
    """

    model: ModelName
    kept: Count = 0
    seen: Count = 0
    classes: Count = 0
    personal: bool = False


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub promises about the update, so that a device can refuse less than its owner asks for.

    secure_aggregation: only sums of updates can be read. client_noise: the noise multiplier that the device itself
    adds, with updates clipped to `clip`; 0: none.
    """

    secure_aggregation: bool = False
    client_noise: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    clip: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class TrainingOffer(msgspec.Struct, frozen=True, kw_only=True):
    """An offer of one round of one run.

    model, version, bundle_sha256: whose head is trained; the version that must serve here. address: host:port of the
    federation, TLS with the hub's CA. valid_s: from its arrival, how long the device may take until it has joined.
    task_s: how long the task may take from then on. linger_s: how long the device may stay connected for the next
    round after it has answered. bytes: to be sent and received. memory_bytes: what training takes at the most.
    """

    schema_version: int = 1
    device_id: DeviceId
    run: RunId
    round_no: Seq
    model: ModelName
    version: Version
    bundle_sha256: Sha256
    address: Word
    valid_s: Seconds
    task_s: Seconds
    linger_s: Seconds = 0.0
    bytes: Count = 0
    memory_bytes: Count = 0
    min_samples: Count = 1
    min_classes: Count = 1
    promise: Promise = Promise()


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an offer. code, reason: why it was declined, or how it failed (`agent.training.budget.DECLINED`).

    retry_s: when it makes sense to ask again, as far as the device can tell (0: it cannot).
    """

    schema_version: int = 1
    run: RunId
    round_no: Seq
    model: ModelName
    state: TrainingState
    code: Code = ""
    reason: Text = ""
    seconds: Seconds = 0.0
    retry_s: Seconds = 0.0


_OFFER = msgspec.msgpack.Decoder(TrainingOffer)


def encode_offer(offer: TrainingOffer) -> bytes:
    """MessagePack bytes."""
    return msgspec.msgpack.encode(offer)


def decode_offer(data: bytes) -> TrainingOffer:
    """An offer; errors `wire.too_large`, `wire.malformed`."""
    if len(data) > limits.MAX_TRAINING_OFFER_BYTES:
        raise TooLarge(
            "wire.too_large",
            f"The training offer has {len(data)} bytes; at most {limits.MAX_TRAINING_OFFER_BYTES} are accepted.",
        )
    try:
        return _OFFER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("wire.malformed", f"The training offer is malformed: {error}."[:300]) from error
