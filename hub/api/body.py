"""Bodies that are not pydantic's: raw bytes, and wire structs of `shared.wire` in JSON."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request, Response

from shared import canonical
from shared.limits import MAX_JSON_BODY_BYTES

__all__ = ["RawBody", "body_schema", "json_answer", "struct_from"]

T = TypeVar("T")


async def _raw_body(request: Request) -> bytes:
    return await request.body()  # bounded by `hub.api.edge`


RawBody = Annotated[bytes, Depends(_raw_body)]


def struct_from(body: bytes, kind: type[T], what: str) -> T:
    """A wire struct from a JSON body; errors `json.malformed`, `json.wrong_shape`."""
    return canonical.loads_as(body, kind, limit=MAX_JSON_BODY_BYTES, what=what)


def json_answer(value: msgspec.Struct) -> Response:
    """A wire struct as a JSON answer."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def body_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What OpenAPI says about a body of this struct (`openapi_extra`)."""
    _refs, schemas = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schemas[kind.__name__]}}}}
