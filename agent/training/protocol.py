"""What the daemon and its training process say to each other: frames of MessagePack with their length before them.

The first frame is `Start`; from then on both sides speak when they have something to say. The end of the daemon's
frames ends the process. Imports nothing heavy: the daemon carries it.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, TypeAlias

import msgspec

from agent.training.settings import SampleSettings
from shared.errors import ErrorBody, InvalidInput
from shared.sandbox.wish import Confinement, Shortfall
from shared.wire.training import Promise

__all__ = [
    "LENGTH",
    "MAX_FRAME_BYTES",
    "Asked",
    "Done",
    "End",
    "Ended",
    "Expect",
    "Failed",
    "FromDaemon",
    "FromTrainer",
    "Halt",
    "Joined",
    "Kept",
    "Start",
    "Verdict",
    "decode_from_daemon",
    "decode_from_trainer",
    "frame",
    "read",
]

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 * 1024


class Start(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What to train and what the process may do.

    directory: of the slot. space: what the class numbers mean. key, certificate, ca: files of the device's identity.
    valid_s: to join within. linger_s: how long to stay without a task. personal_samples: 0: no head of its own.
    promise: of the offer, against which each task is held.
    """

    run: str
    address: str
    model: str
    version: int
    bundle_sha256: str
    directory: str
    space: str
    samples: str
    sample_settings: SampleSettings
    state: str
    key: str
    certificate: str
    ca: str
    valid_s: float
    linger_s: float
    personal_samples: int
    personal_margin: float
    trainer: str
    confinement: Confinement
    promise: Promise = Promise()


class Expect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An offer was accepted: a task comes within `valid_s`."""

    valid_s: float
    linger_s: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Whether the task that was asked about may be done (an empty code), within `task_s`."""

    task_s: float = 0.0
    code: str = ""
    reason: str = ""


class Halt(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Stop the present task at the next epoch, because of this."""

    code: str
    reason: str


class End(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Leave the federation and end."""


FromDaemon: TypeAlias = Start | Expect | Verdict | Halt | End


class Joined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The device is a node of the federation. shortfalls: of the confinement."""

    shortfalls: list[Shortfall] = []


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task came; may it be done?"""

    round_no: int
    kind: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The hub has the answer. seconds: since the task came. peak_bytes: the most memory that the process ever had."""

    round_no: int
    kind: str
    seconds: float
    examples: int
    peak_bytes: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The task was not done, or its answer not delivered."""

    round_no: int
    seconds: float
    error: ErrorBody


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """There is a new personal head on the disk."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The process ends; an error if it should not have."""

    error: ErrorBody | None = None


FromTrainer: TypeAlias = Joined | Asked | Done | Failed | Kept | Ended
_FROM_DAEMON: msgspec.msgpack.Decoder[FromDaemon] = msgspec.msgpack.Decoder(FromDaemon)
_FROM_TRAINER: msgspec.msgpack.Decoder[FromTrainer] = msgspec.msgpack.Decoder(FromTrainer)


def frame(message: FromDaemon | FromTrainer) -> bytes:
    """The bytes of a message."""
    data = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(data)) + data


def read(source: BinaryIO) -> bytes | None:
    """The next frame's content; None at the end. Error `training.frame`."""
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise InvalidInput("training.frame", f"A frame has {length} bytes; at most {MAX_FRAME_BYTES} are accepted.")
    data = source.read(length)
    return data if len(data) == length else None


def decode_from_daemon(data: bytes) -> FromDaemon:
    """Error `training.frame`."""
    try:
        return _FROM_DAEMON.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("training.frame", f"A frame is malformed: {error}."[:300]) from error


def decode_from_trainer(data: bytes) -> FromTrainer:
    """Error `training.frame`."""
    try:
        return _FROM_TRAINER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("training.frame", f"A frame is malformed: {error}."[:300]) from error
