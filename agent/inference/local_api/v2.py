"""The Open Inference Protocol V2 over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.inference.local_api.bodies import read_body
from agent.inference.local_api.tensors import datatype_of
from agent.inference.local_api.v2_messages import decode_request, encode_response, input_of
from shared import __version__
from shared.errors import NotFound

__all__ = ["routes", "served"]

_LENGTH = "Inference-Header-Content-Length"


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def served(host: ModelHost, request: Request) -> ModelHandle:
    """The version that the path means; errors `model.not_served`, `model.version_not_served`."""
    handle = host.current(request.path_params["model"])
    version = request.path_params.get("version")
    if version is not None and version != str(handle.manifest.version):
        raise NotFound(
            "model.version_not_served",
            f"Version {version[:20]} of {handle.manifest.model} is not served; version {handle.manifest.version} is.",
        )
    return handle


class _Paths:
    """The answers; one method for each path."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    async def infer(self, request: Request) -> Response:
        body = await read_body(request)
        handle = served(self._host, request)
        message, binary = decode_request(body, request.headers.get(_LENGTH))
        x = input_of(message, binary, handle.manifest)
        y, handle = await self._host.answer_async(handle.manifest.model, x)
        if message.id and handle.monitor is not None:
            handle.monitor.remember(message.id, x, y)
        content, length = encode_response(message, handle.manifest, y)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={_LENGTH: str(length)}, media_type="application/octet-stream")

    async def metadata(self, request: Request) -> Response:
        manifest = served(self._host, request).manifest
        tensors = [
            {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": [-1, *spec.shape]}
            for spec in (manifest.input, manifest.output)
        ]
        head = {"name": manifest.model, "versions": [str(manifest.version)], "platform": "tflite"}
        return _json({**head, "inputs": tensors[:1], "outputs": tensors[1:]})

    async def model_ready(self, request: Request) -> Response:
        return _json({"name": served(self._host, request).manifest.model, "ready": True})

    async def server(self, request: Request) -> Response:
        return _json({"name": "skerry-agent", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        serving = bool(self._host.models())
        return _json({"ready": serving}, 200 if serving else 503)

    async def index(self, request: Request) -> Response:
        manifests = [self._host.current(model).manifest for model in self._host.models()]
        return _json([{"name": m.model, "version": str(m.version), "state": "READY"} for m in manifests])


def routes(host: ModelHost) -> list[Route]:
    """The protocol's paths; the one that is called most comes first."""
    paths = _Paths(host)
    models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [
        *(Route(f"{model}/infer", paths.infer, methods=["POST"]) for model in models),
        *(Route(f"{model}/ready", paths.model_ready) for model in models),
        *(Route(model, paths.metadata) for model in models),
        Route("/v2", paths.server),
        Route("/v2/health/live", paths.live),
        Route("/v2/health/ready", paths.ready),
        Route("/v2/repository/index", paths.index, methods=["POST"]),
    ]
