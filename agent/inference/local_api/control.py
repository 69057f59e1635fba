"""What the agent's own command line asks of the daemon; offered on the Unix socket only."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.inference.local_api.bodies import parse_json, read_body
from shared import limits
from shared.wire.types import ModelName

__all__ = ["Control", "routes"]


class Control(Protocol):
    """What answers; results are anything that msgspec can write as JSON. Errors are `SkerryError`."""

    async def status(self) -> Any:
        """How the agent and its models stand."""
        ...

    async def history(self, model: str | None) -> Any:
        """What was installed and why, newest first; of one model or of all."""
        ...

    async def rollback(self, model: str) -> Any:
        """Return to the version before."""
        ...

    async def training(self) -> Any:
        """Offers to train and what became of them, and heads of this device's own."""
        ...

    async def install(self, folder: str) -> Any:
        """Take the assignments for this device from a folder on this device."""
        ...


class _Rollback(msgspec.Struct, forbid_unknown_fields=True):
    model: ModelName


class _Install(msgspec.Struct, forbid_unknown_fields=True):
    folder: Annotated[str, Meta(min_length=1, max_length=4096)]


_INSTALL = msgspec.json.Decoder(_Install)
_ROLLBACK = msgspec.json.Decoder(_Rollback)


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def routes(control: Control) -> list[Route]:
    """`GET /skerry/status|training`, `GET /skerry/history?model=`, and with {"model|folder": …} `POST
    /skerry/rollback|install`."""

    async def status(request: Request) -> Response:
        return _json(await control.status())

    async def training(request: Request) -> Response:
        return _json(await control.training())

    async def history(request: Request) -> Response:
        return _json(await control.history(request.query_params.get("model")))

    async def rollback(request: Request) -> Response:
        message: _Rollback = parse_json(_ROLLBACK, await read_body(request, limits.MAX_CONTROL_BODY_BYTES))
        return _json(await control.rollback(message.model))

    async def install(request: Request) -> Response:
        message: _Install = parse_json(_INSTALL, await read_body(request, limits.MAX_CONTROL_BODY_BYTES))
        return _json(await control.install(message.folder))

    return [
        Route("/skerry/status", status),
        Route("/skerry/training", training),
        Route("/skerry/history", history),
        Route("/skerry/rollback", rollback, methods=["POST"]),
        Route("/skerry/install", install, methods=["POST"]),
    ]
