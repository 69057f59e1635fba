"""Request bodies, bounded before they are read and given up when they do not come."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from shared import limits
from shared.errors import InvalidInput, TooLarge, Unavailable

__all__ = ["parse_json", "read_body"]

_BODY_TIMEOUT_S = 30.0


async def read_body(request: Request, limit: int = limits.MAX_INFER_BODY_BYTES) -> bytes:
    """The whole body of at most `limit` bytes; errors `body.too_large`, `body.encoding`, `body.timeout`."""
    if "content-encoding" in request.headers:
        raise InvalidInput("body.encoding", "Compressed bodies are not accepted.", hint="Send the body as it is.")
    promised = request.headers.get("content-length", "")
    if promised.isdigit() and int(promised[:18]) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError as error:
        raise Unavailable("body.timeout", f"The body did not arrive within {_BODY_TIMEOUT_S:.0f} s.") from error
    except ClientDisconnect as error:
        raise Unavailable("body.disconnected", "The client went away.") from error
    return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge("body.too_large", f"The body is over {limit} bytes.", hint="Send smaller batches.")


def parse_json(decoder: msgspec.json.Decoder[Any], data: bytes | memoryview) -> Any:
    """What the decoder makes of JSON bytes; error `body.malformed`."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("body.malformed", f"The body is not a valid request: {error}."[:300]) from error
