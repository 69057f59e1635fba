"""Errors as HTTP answers: one table from family to status, and the shape that each protocol wants.

The prediction protocols put a text under `error`; our code, hint and details stand beside it. The agent's own paths
put the whole `ErrorBody` under `error`, as the hub does.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import SkerryError

__all__ = ["STATUS", "control_error", "error_response", "prediction_error"]

STATUS: Mapping[str, int] = {
    "internal": 500,
    "invalid": 400,
    "too_large": 413,
    "unauthorised": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "untrusted": 403,
    "unavailable": 503,
    "storage": 500,
}


def prediction_error(error: SkerryError) -> Response:
    """`{"error": text, "code": …, …}`."""
    body = error.body()
    text = f"{body.message} {body.hint}".strip()
    content = {
        "error": text,
        "code": body.code,
        "hint": body.hint,
        "retriable": body.retriable,
        "detail": body.detail,
    }
    return Response(msgspec.json.encode(content), STATUS[error.family], media_type="application/json")


def control_error(error: SkerryError) -> Response:
    """`{"error": {code, message, …}}`."""
    return Response(msgspec.json.encode({"error": error.body()}), STATUS[error.family], media_type="application/json")


def error_response(request: Request, error: SkerryError) -> Response:
    """The shape by the path of the request."""
    return control_error(error) if request.url.path.startswith("/skerry/") else prediction_error(error)
