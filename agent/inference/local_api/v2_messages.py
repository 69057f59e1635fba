"""Open Inference Protocol V2 messages: request bytes to an array, an array to response bytes; no I/O.

With the binary tensor extension the body is JSON of `Inference-Header-Content-Length` bytes followed by the raw data of
each input that has `binary_data_size`, in order; the response is built the same way.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.inference.local_api.bodies import parse_json
from agent.inference.local_api.tensors import DATATYPES, from_binary, from_json
from shared import limits
from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["InferRequest", "decode_request", "encode_response", "input_of"]

_REFUSED = ("shared_memory_region", "classification", "sequence_id")
Name = Annotated[str, Meta(max_length=limits.MAX_REQUEST_ID_CHARS)]


class _Input(msgspec.Struct):
    name: Name
    shape: Annotated[list[int], Meta(max_length=limits.MAX_INFER_NESTING_COUNT)]
    datatype: Name
    parameters: dict[str, Any] = {}
    data: Any = None


class _Output(msgspec.Struct):
    name: Name
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The JSON part of a request."""

    inputs: Annotated[list[_Input], Meta(min_length=1, max_length=16)]
    outputs: Annotated[list[_Output], Meta(max_length=16)] = []
    id: Annotated[str, Meta(max_length=limits.MAX_REQUEST_ID_CHARS)] = ""
    parameters: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(InferRequest)


def decode_request(body: bytes, header: str | None) -> tuple[InferRequest, memoryview]:
    """The JSON part and the binary rest; `header` is the value of Inference-Header-Content-Length."""
    view = memoryview(body)
    if header is None:
        request: InferRequest = parse_json(_DECODER, body)
        return request, view[len(body) :]
    if not (header.isascii() and header.isdigit() and len(header) <= 12) or int(header) > len(body):
        raise InvalidInput("body.malformed", "Inference-Header-Content-Length is not the length of a part of the body.")
    return parse_json(_DECODER, view[: int(header)]), view[int(header) :]


def input_of(request: InferRequest, binary: memoryview, manifest: Manifest) -> Array:
    """The one input that the model takes; errors `input.*`, `infer.unsupported_parameter`."""
    wanted = manifest.input
    if len(request.inputs) != 1 or request.inputs[0].name != wanted.name:
        names = ", ".join(entry.name for entry in request.inputs)
        raise InvalidInput("input.name", f"The inputs are {names[:100]}, but the model takes one, {wanted.name}.")
    given = request.inputs[0]
    _refuse_unsupported(given.parameters)
    dtype = DATATYPES.get(given.datatype)
    if dtype is None or dtype.name != wanted.dtype:
        raise InvalidInput(
            "input.dtype", f"{wanted.name} is {given.datatype[:20]!r}, but the model takes {wanted.dtype}."
        )
    size = given.parameters.get("binary_data_size")
    if size is None:
        if len(binary):
            raise InvalidInput("body.malformed", "There is binary data that belongs to no input.")
        if given.data is None:
            raise InvalidInput("input.data", f"{wanted.name} has no data.")
        return from_json(given.data, dtype, given.shape, wanted.name)
    if given.data is not None or isinstance(size, bool) or size != len(binary):
        raise InvalidInput("body.malformed", f"binary_data_size is {size!r:.40}, but {len(binary)} bytes follow.")
    return from_binary(binary, dtype, given.shape, wanted.name)


def _refuse_unsupported(parameters: dict[str, Any]) -> None:
    for name in _REFUSED:
        if name in parameters:
            raise InvalidInput("infer.unsupported_parameter", f"The parameter {name} is not supported here.")


def _wants_binary(request: InferRequest, name: str) -> bool:
    default = request.parameters.get("binary_data_output", False) is True
    for output in request.outputs:
        if output.name != name:
            raise InvalidInput("output.name", f"The model has no output {output.name[:60]!r}; it has {name}.")
        _refuse_unsupported(output.parameters)
        default = output.parameters.get("binary_data", default) is True
    return default


def encode_response(request: InferRequest, manifest: Manifest, y: Array) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part if binary data follows; error `output.name`."""
    name = manifest.output.name
    output: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(y.shape)}
    head: dict[str, Any] = {"model_name": manifest.model, "model_version": str(manifest.version)}
    if request.id:
        head["id"] = request.id
    if not _wants_binary(request, name):
        output["data"] = y.reshape(-1).tolist()
        return msgspec.json.encode({**head, "outputs": [output]}), None
    data = y.astype("<f4", copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(data)}
    text = msgspec.json.encode({**head, "outputs": [output]})
    return text + data, len(text)
