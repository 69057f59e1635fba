"""What daemon and worker say to each other: one JSON document per line, a request in, progress and one reply out."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from agent.ota.settings import OtaSettings
from shared import limits
from shared.errors import ErrorBody, InvalidInput
from shared.wire.down import Assignment

__all__ = [
    "MAX_LINE_BYTES",
    "Check",
    "Checked",
    "Failed",
    "Fetch",
    "Fetched",
    "Found",
    "Hello",
    "Look",
    "Progress",
    "Reply",
    "Request",
    "Unpack",
    "Unpacked",
    "decode_reply",
    "decode_request",
    "encode",
]

MAX_LINE_BYTES = 256 * limits.KIB


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """First line to the worker: where the agent's state is, and the settings."""

    state: str
    settings: OtaSettings


class Check(msgspec.Struct, frozen=True, kw_only=True, tag="check"):
    """Refresh the release metadata and say whether this envelope may be installed.

    floors: counters used up by model and key id (`agent.ota.counters`). folder: a folder that a person brought, in
    place of the hub.
    """

    envelope: bytes
    floors: dict[str, dict[str, int]]
    folder: str = ""


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """Download the assigned bundle, or copy it from `folder` as long as that is there.

    recheck: refresh and check again first, because time has passed.
    """

    assignment: Assignment
    envelope: bytes
    recheck: bool
    folder: str = ""


class Unpack(msgspec.Struct, frozen=True, kw_only=True, tag="unpack"):
    """Verify the downloaded bundle and unpack it into its slot."""

    assignment: Assignment


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """Read the assignments for this device in a folder that a person brought."""

    folder: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Bytes of the bundle that are on disk by now."""

    bytes: int


class Checked(msgspec.Struct, frozen=True, kw_only=True, tag="checked"):
    """The envelope is genuine, for this device and new. `refusal`: why it may not be installed nevertheless.

    keyids: the keys that signed it.
    """

    assignment: Assignment
    refusal: ErrorBody | None = None
    keyids: list[str] = []


class Fetched(msgspec.Struct, frozen=True, kw_only=True, tag="fetched"):
    """The bundle is on disk. `bytes` came over the network, the delta's included.

    delta: it was made from an installed bundle and a delta. problem: why it was not, although that was tried.
    """

    bytes: int
    delta: bool = False
    problem: ErrorBody | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """The envelopes in the folder, unverified."""

    envelopes: list[bytes]


class Unpacked(msgspec.Struct, frozen=True, kw_only=True, tag="unpacked"):
    """The slot is complete and recorded."""

    slot: str


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The request failed; the worker takes the next one."""

    error: ErrorBody


Request: TypeAlias = Hello | Check | Fetch | Look | Unpack
Reply: TypeAlias = Progress | Checked | Fetched | Found | Unpacked | Failed

_REQUEST: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """The request in a line; error `worker.protocol`."""
    try:
        return _REQUEST.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput("worker.protocol", f"The worker was asked something malformed: {error}.") from error


def decode_reply(line: bytes) -> Reply:
    """The reply in a line; error `worker.protocol`."""
    try:
        return _REPLY.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidInput("worker.protocol", f"The worker answered something malformed: {error}.") from error
