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


def routes(host: ModelHost) -> list[Route]:
    """The protocol's paths; the one that is called most comes first."""

    async def infer(request: Request) -> Response:
        body = await read_body(request)
        handle = served(host, request)
        message, binary = decode_request(body, request.headers.get(_LENGTH))
        x = input_of(message, binary, handle.manifest)
        y, handle = await host.answer_async(handle.manifest.model, x)
        content, length = encode_response(message, handle.manifest, y)
        if length is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={_LENGTH: str(length)}, media_type="application/octet-stream")

    async def metadata(request: Request) -> Response:
        manifest = served(host, request).manifest
        tensors = [
            {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": [-1, *spec.shape]}
            for spec in (manifest.input, manifest.output)
        ]
        return _json(
            {
                "name": manifest.model,
                "versions": [str(manifest.version)],
                "platform": "tflite",
                "inputs": tensors[:1],
                "outputs": tensors[1:],
            }
        )

    async def model_ready(request: Request) -> Response:
        return _json({"name": served(host, request).manifest.model, "ready": True})

    async def server(request: Request) -> Response:
        return _json({"name": "skerry-agent", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        serving = bool(host.models())
        return _json({"ready": serving}, 200 if serving else 503)

    async def index(request: Request) -> Response:
        handles = [host.current(model).manifest for model in host.models()]
        return _json([{"name": m.model, "version": str(m.version), "state": "READY"} for m in handles])

    model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    out = [Route(f"{path}/infer", infer, methods=["POST"]) for path in (model, version)]
    out += [Route(f"{path}/ready", model_ready) for path in (model, version)]
    out += [Route(path, metadata) for path in (model, version)]
    return [
        *out,
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/repository/index", index, methods=["POST"]),
    ]
