"""What the hub answers, as values and errors: the status gives the family, the body gives code, message and hint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.errors import (
    Conflict,
    ErrorBody,
    Forbidden,
    InternalError,
    InvalidInput,
    NotFound,
    SkerryError,
    StorageFailure,
    TooLarge,
    Unauthorised,
    Unavailable,
    Untrusted,
)

__all__ = ["error_of", "parse_json"]

_FAMILY: Mapping[int, type[SkerryError]] = {
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Untrusted,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StorageFailure,
}


class _Error(ErrorBody, frozen=True, kw_only=True):
    request_id: str = ""


class _Shape(msgspec.Struct, frozen=True):
    error: _Error


def parse_json(data: bytes, path: str) -> Any:
    """The value of a JSON answer (nothing: `None`); error `hub.unexpected_answer`."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InternalError("hub.unexpected_answer", f"The hub's answer to {path} is not JSON.") from error


def error_of(status: int, data: bytes, url: str) -> SkerryError:
    """The error that an answer with a status of 300 or more stands for."""
    kind = _FAMILY.get(status, InvalidInput if 400 <= status < 500 else InternalError)
    try:
        body = msgspec.json.decode(data, type=_Shape).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return kind(
            "hub.unexpected_answer",
            f"{url} answered with status {status}, but not as a Skerry hub does.",
            hint="Is this the address of a hub, and does no proxy stand before it?",
        )
    detail = {**body.detail, "request_id": body.request_id} if body.request_id else body.detail
    return kind(body.code, body.message, hint=body.hint, retriable=body.retriable, detail=detail)
