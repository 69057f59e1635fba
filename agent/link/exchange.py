"""What the daemon and its HTTPS child say to each other over stdin and stdout: one MessagePack value each way."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from shared import limits
from shared.errors import ErrorBody, InvalidInput, TooLarge
from shared.wire.types import Count, Epoch

__all__ = ["MAX_EXCHANGE_BYTES", "Request", "Result", "decode_request", "decode_result"]

T = TypeVar("T")
MAX_EXCHANGE_BYTES = limits.MAX_UP_BATCH_BYTES + limits.MIB


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Messages to deliver, and which desired state is known already."""

    etag: Annotated[str, Meta(max_length=256)] = ""
    messages: Annotated[list[bytes], Meta(max_length=limits.MAX_UP_BATCH_COUNT)] = []


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub answered. `desired` is None when it has not changed; `epoch` is empty when nothing was delivered.

    rtt_s: how long delivering took; hub_s, wall_s: the hub's time in its answer, and the device's when it arrived.
    """

    etag: Annotated[str, Meta(max_length=256)] = ""
    desired: Annotated[bytes, Meta(max_length=limits.MAX_DESIRED_STATE_BYTES)] | None = None
    epoch: Epoch | None = None
    watermark: Count = 0
    rtt_s: float | None = None
    hub_s: float | None = None
    wall_s: float = 0.0
    error: ErrorBody | None = None


def decode_request(data: bytes) -> Request:
    """The daemon's request; `exchange.malformed`, `exchange.too_large`."""
    return _decode(data, Request)


def decode_result(data: bytes) -> Result:
    """The child's result; `exchange.malformed`, `exchange.too_large`."""
    return _decode(data, Result)


def _decode(data: bytes, kind: type[T]) -> T:
    if len(data) > MAX_EXCHANGE_BYTES:
        raise TooLarge("exchange.too_large", f"The exchange is over {MAX_EXCHANGE_BYTES} bytes.")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("exchange.malformed", f"The exchange is malformed: {error}."[:300]) from error
