"""The door to Flower's SuperLink: only what a node needs, and nothing larger than a bound.

SuperLink's Control API is not authenticated and could push programs to devices, and its Runtime API is for processes
that do not exist here. So everything outside `/v1/fleet/` and `/health` is refused before Flower sees it, and so are
the fleet paths with which a node would register itself; that of programs (`get-fab`) only opens for stock nodes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["FleetOnly"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATHS = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "pull-object",
        "push-object",
        "confirm-message-received",
    )
)


class FleetOnly:
    """ASGI: passes the nodes' own requests of at most `max_body_bytes`; 403 and 413 for the rest.

    programs: also let nodes fetch the program of the run, which stock Flower nodes need.
    """

    def __init__(self, app: App, max_body_bytes: int, *, programs: bool = False) -> None:
        self._app = app
        self._paths = _PATHS | {"/v1/fleet/get-fab"} if programs else _PATHS
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not self._allowed(scope):
            await _refuse(send, 403, b"Only devices are served here.\n")
            return
        body = await self._body(receive)
        if body is None:
            await _refuse(send, 413, b"The request is too large.\n")
            return
        await self._app(scope, _replay(body, receive), send)

    def _allowed(self, scope: Scope) -> bool:
        if scope["path"] == "/health":
            return bool(scope["method"] == "GET")
        return scope["method"] == "POST" and scope["path"] in self._paths

    async def _body(self, receive: Receive) -> bytes | None:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> MutableMapping[str, Any]:
        return pending.pop() if pending else await receive()

    return replay


async def _refuse(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
