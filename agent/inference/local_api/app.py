"""The ASGI applications: predictions for everyone who can connect, control beside them on the Unix socket.

On a loopback port any web page in a browser on the device could send requests, so there requests with an `Origin`, or
with a `Host` that is not this machine, are refused.
"""

from __future__ import annotations

import logging
import re

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.drift.metrics import NamedMetrics
from agent.inference.host import ModelHost
from agent.inference.local_api import compatible, control, truths, v2
from agent.inference.local_api.errors import error_response, prediction_error
from shared.errors import Forbidden, InternalError, InvalidInput, NotFound, SkerryError

__all__ = ["LoopbackGuard", "build_app"]

_LOG = logging.getLogger(__name__)
_PORT = re.compile(rb":[0-9]{1,5}\Z")
_HERE = {b"localhost", b"127.0.0.1", b"[::1]"}


async def _known(request: Request, error: Exception) -> Response:
    if not isinstance(error, SkerryError):
        raise error
    if error.family == "internal":
        _LOG.error("%s: %s", request.url.path, error)
    return error_response(request, error)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return error_response(request, NotFound("api.no_such_path", f"There is no {request.url.path[:100]} here."))
    if status == 405:
        answer = error_response(request, InvalidInput("api.method", f"{request.method} is not possible here."))
        answer.status_code = 405
        return answer
    return error_response(request, InternalError("api.internal", "The agent could not answer; its log says why."))


def build_app(
    host: ModelHost, controls: control.Control | None = None, metrics: NamedMetrics | None = None
) -> Starlette:
    """The application; with `controls` also the paths that change the device."""
    routes = [*v2.routes(host), *truths.routes(host, metrics or NamedMetrics()), *compatible.routes(host)]
    if controls is not None:
        routes += [*control.routes(controls), *truths.window_routes(host)]
    handlers = {SkerryError: _known, HTTPException: _refused, Exception: _refused}
    return Starlette(routes=routes, exception_handlers=handlers)


class LoopbackGuard:
    """Passes on only what a program on this machine sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            name = _PORT.sub(b"", headers.get(b"host", b""))
            if b"origin" in headers or name not in _HERE:
                refusal = Forbidden("api.cross_origin", "Only programs on this machine may ask.")
                await prediction_error(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)
