"""The outermost layer: request id, security headers, body bounds, slow bodies, and the last catch.

A body is counted while it streams in, so that neither a wrong Content-Length nor chunks without one get past the
bound. A route whose body may be larger than JSON's bound declares it in its module's `BODY_LIMITS`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.api.errors import error_response
from hub.store.failures import translated
from shared.errors import InternalError, InvalidInput, SkerryError, TooLarge
from shared.limits import MAX_JSON_BODY_BYTES, MIB

__all__ = ["BodyLimits", "Edge"]

BodyLimits = Mapping[tuple[str, str], int]
"""(method, path template) -> bytes."""

_DISCARD_BYTES = 2 * MIB
_DISCARD_S = 1.0
_LOG = logging.getLogger("skerry.hub.api")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Edge:
    """ASGI middleware around the whole application. `body_wait_s`: the longest pause between two parts of a body."""

    def __init__(self, app: ASGIApp, limits: Sequence[BodyLimits] = (), body_wait_s: float = 30.0) -> None:
        self._app = app
        self._body_wait_s = body_wait_s
        self._limits: list[tuple[str, re.Pattern[str], int]] = [
            (method, compile_path(template)[0], limit)
            for table in limits
            for (method, template), limit in table.items()
        ]

    def _limit(self, scope: Scope) -> int:
        for method, pattern, limit in self._limits:
            if scope["method"] == method and pattern.match(scope["path"]):
                return limit
        return MAX_JSON_BODY_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(receive, self._limit(scope), self._body_wait_s)
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-Id"] = request_id
                if not body.finished:
                    headers["Connection"] = "close"  # what is left of the body is not a request
            await send(message)

        try:
            body.check_announced(scope)
            await self._app(scope, body.receive, send_with_headers)
        except Exception as error:
            if started:
                raise
            await body.discard_some()
            await error_response(_public(error, request_id), request_id)(scope, receive, send_with_headers)


def _public(error: Exception, request_id: str) -> SkerryError:
    if isinstance(error, SkerryError):
        return error
    _LOG.error("request %s failed unexpectedly", request_id, exc_info=error)
    known = translated(error)
    if known is not None:
        return known
    return InternalError(
        "internal.unexpected",
        "The hub failed in a way that it should not.",
        hint=f"Its log says more; look for request {request_id}.",
        retriable=True,
    )


class _Body:
    """Counts what comes in; knows whether all of it has come."""

    def __init__(self, receive: Receive, limit: int, wait_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._wait_s = wait_s
        self._seen = 0
        self.finished = False

    def check_announced(self, scope: Scope) -> None:
        """Refuse at once what announces itself as too large."""
        announced = {name.lower(): value for name, value in scope["headers"]}
        length = announced.get(b"content-length", b"0")
        self.finished = length == b"0" and b"transfer-encoding" not in announced
        if not length.isdigit():
            raise InvalidInput("request.malformed", "The Content-Length header is not a number.")
        if len(length) > 18 or int(length) > self._limit:
            raise self._too_large()

    async def discard_some(self) -> None:
        """Read on for a little, because an answer is lost when the connection closes on what was not read."""
        left = _DISCARD_BYTES
        try:
            async with asyncio.timeout(_DISCARD_S):
                while not self.finished and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self.finished = not message.get("more_body", False)
        except TimeoutError:
            return  # then the connection is closed as it is

    def _too_large(self) -> TooLarge:
        return TooLarge("request.too_large", f"The body is too large; at most {self._limit} bytes are accepted here.")

    async def receive(self) -> Message:
        if self.finished:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._wait_s)
        except TimeoutError as error:
            raise InvalidInput("http.slow_body", "The body stopped coming in.", retriable=True) from error
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._limit:
                raise self._too_large()
            self.finished = not message.get("more_body", False)
        return message
