"""Paths that applications for other servers already use: TensorFlow Serving's REST and TorchServe's predictions.

Their JSON has no types, so numbers are converted to the model's input type when that is exact.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.inference.local_api.bodies import parse_json, read_body
from agent.inference.local_api.tensors import DATATYPES, datatype_of, from_binary, from_json
from agent.inference.local_api.v2 import served
from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["routes"]

_TOP_COUNT = 5
_ANYTHING: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class _PredictRequest(msgspec.Struct):
    instances: list[Any] | None = None
    inputs: Any = None


_PREDICT = msgspec.json.Decoder(_PredictRequest)


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _rows(data: Any, manifest: Manifest) -> Array:
    name = manifest.input.name
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        if any(set(row) != {name} for row in data):
            raise InvalidInput("input.name", f"Each instance must have the one input {name}.")
        data = [row[name] for row in data]
    elif isinstance(data, dict):
        if set(data) != {name}:
            raise InvalidInput("input.name", f"The inputs must be the one input {name}.")
        data = data[name]
    return from_json(data, DATATYPES[datatype_of(manifest.input.dtype)], None, name)


def routes(host: ModelHost) -> list[Route]:
    """The paths of both."""

    async def predict(request: Request) -> Response:
        message: _PredictRequest = parse_json(_PREDICT, await read_body(request))
        manifest = served(host, request).manifest
        if (message.instances is None) == (message.inputs is None):
            raise InvalidInput("body.malformed", 'Send either "instances" (rows) or "inputs" (columns).')
        data = message.inputs if message.instances is None else message.instances
        y, _ = await host.answer_async(manifest.model, _rows(data, manifest))
        return _json({"outputs" if message.instances is None else "predictions": y.tolist()})

    async def status(request: Request) -> Response:
        version = str(served(host, request).manifest.version)
        state = {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return _json({"model_version_status": [state]})

    async def predictions(request: Request) -> Response:
        body, handle = await read_body(request), served(host, request)
        x = _sample(request.headers.get("content-type", ""), body, handle.manifest)
        single = x.ndim == len(handle.manifest.input.shape)
        y, handle = await host.answer_async(handle.manifest.model, x[np.newaxis] if single else x)
        answers = [_named(row, handle) for row in y]
        return _json(answers[0] if single else answers)

    async def ping(request: Request) -> Response:
        return _json({"status": "Healthy" if host.models() else "Partial Healthy"})

    model, version = "/v1/models/{model}", "/v1/models/{model}/versions/{version}"
    return [
        *(Route(f"{path}:predict", predict, methods=["POST"]) for path in (model, version)),
        *(Route(path, status) for path in (model, version)),
        Route("/predictions/{model}", predictions, methods=["POST"]),
        Route("/predictions/{model}/{version}", predictions, methods=["POST"]),
        Route("/ping", ping),
    ]


def _sample(content_type: str, body: bytes, manifest: Manifest) -> Array:
    """One sample or a batch, from JSON or from the raw bytes of one sample."""
    spec = manifest.input
    if content_type.split(";")[0].strip() == "application/octet-stream":
        return from_binary(memoryview(body), DATATYPES[datatype_of(spec.dtype)], spec.shape, spec.name)
    data = parse_json(_ANYTHING, body)
    if isinstance(data, dict):
        data = data.get("data", data.get("instances"))
    return _rows(data, manifest)


def _named(row: Array, handle: ModelHandle) -> Any:
    """The most probable classes by label, most probable first; plain numbers for other models."""
    if handle.manifest.task != "classification":
        return row.tolist()
    scores = row.reshape(-1)
    best = np.argsort(-scores, kind="stable")[:_TOP_COUNT]
    return {handle.labels[i] if handle.labels else str(i): float(scores[i]) for i in best}
