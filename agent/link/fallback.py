"""One exchange over HTTPS, from the daemon's side: starts the child and reads its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from agent.children import run_module
from agent.link.exchange import MAX_EXCHANGE_BYTES, Request, Result, decode_result
from shared.errors import Unavailable

__all__ = ["Fallback", "HttpsFallback"]


class Fallback(Protocol):
    """Another way to the hub than MQTT."""

    async def exchange(self, request: Request) -> Result:
        """Deliver messages and fetch the desired state; `SkerryError` when that is not possible either."""
        ...


class HttpsFallback:
    """The way through `python -m agent.link.https`."""

    def __init__(self, state: Path, *, timeout_s: float) -> None:
        self._state = state
        self._timeout_s = timeout_s

    async def exchange(self, request: Request) -> Result:
        """One child process, one answer; `link.https` with what the hub or the network said."""
        data = await run_module(
            "agent.link.https",
            ["--state", str(self._state)],
            msgspec.msgpack.encode(request),
            timeout_s=self._timeout_s,
            limit_bytes=MAX_EXCHANGE_BYTES,
        )
        result = decode_result(data)
        if result.error is not None:
            raise Unavailable("link.https", f"{result.error.message} ({result.error.code})", retriable=True)
        return result
