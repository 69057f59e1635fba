"""One error shape for every failure: `{"error": {code, message, hint, retriable, detail, request_id}}`.

The family of an error decides its status (`STATUS`); a few codes have a status of their own (`STATUS_BY_CODE`).
An exception that nobody expected is logged with its request id and answered without its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from shared.errors import InvalidInput, NotFound, SkerryError

__all__ = ["STATUS", "STATUS_BY_CODE", "error_response", "install_error_handlers", "status_of"]

STATUS: Mapping[str, int] = {
    "internal": 500,
    "invalid": 400,
    "too_large": 413,
    "unauthorised": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "untrusted": 422,
    "unavailable": 503,
    "storage": 507,
}
STATUS_BY_CODE: Mapping[str, int] = {
    "http.method": 405,
    "http.slow_body": 408,
    "http.media_type": 415,
    "blob.range": 416,
    "http.too_many_requests": 429,
}


def status_of(error: SkerryError) -> int:
    """The HTTP status of an error."""
    return STATUS_BY_CODE.get(error.code, STATUS[error.family])


def error_response(error: SkerryError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error. `retry_after_s` in its detail becomes a Retry-After header too."""
    body: dict[str, Any] = {**msgspec.to_builtins(error.body()), "request_id": request_id}
    out = dict(headers or {})
    status = status_of(error)
    if status == 401:
        out["WWW-Authenticate"] = 'Bearer realm="skerry"'
    if "retry_after_s" in error.detail:
        out["Retry-After"] = str(error.detail["retry_after_s"])
    return Response(msgspec.json.encode({"error": body}), status, out, media_type="application/json")


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def _on_skerry_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, SkerryError):
        raise error
    return error_response(error, _request_id(request))


def _from_validation(error: RequestValidationError) -> InvalidInput:
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"]), "problem": str(problem["msg"])[:200]}
        for problem in error.errors()[:10]
    ]
    first = problems[0] if problems else {"field": "request", "problem": "not valid"}
    return InvalidInput(
        "request.invalid", f"{first['field']}: {first['problem']}."[:400], detail={"problems": problems}
    )


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return error_response(_from_validation(error), _request_id(request))


def _from_http(request: Request, error: HTTPException) -> SkerryError:
    if isinstance(error.__cause__, SkerryError):  # raised while FastAPI was reading the body
        return error.__cause__
    if error.status_code == 404:
        return NotFound("http.not_found", f"There is nothing at {request.url.path[:200]}.")
    if error.status_code == 405:
        return InvalidInput("http.method", f"{request.method} is not possible at {request.url.path[:200]}.")
    return InvalidInput("request.malformed", str(error.detail)[:400])


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return error_response(_from_http(request, error), _request_id(request), error.headers)


def install_error_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the one shape. What is unexpected is caught outside of it, in `hub.api.edge`."""
    app.add_exception_handler(SkerryError, _on_skerry_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
