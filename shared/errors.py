"""The error root and its families; each error carries a stable code, a message in the user's words and what to do next.

Rules: a failure is never `None` or `False`; foreign exceptions are wrapped at the adapter with `from`;
the code is part of the interface and never changes its meaning. Families decide the HTTP status
(`hub.api.errors`) and the exit code of the commands (`EXIT_CODES`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

__all__ = [
    "EXIT_CODES",
    "Conflict",
    "ErrorBody",
    "Forbidden",
    "InternalError",
    "InvalidInput",
    "NotFound",
    "SkerryError",
    "StorageFailure",
    "TooLarge",
    "Unauthorised",
    "Unavailable",
    "Untrusted",
]


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The one error shape, on HTTP, in reports and in `--json` output."""

    code: str
    message: str
    hint: str = ""
    retriable: bool = False
    detail: dict[str, Any] = {}


class SkerryError(Exception):
    """Root of every error that Skerry raises on purpose.

    code: dotted, stable, for programs (`bundle.digest_mismatch`). message: what is wrong, for people.
    hint: what to do next. retriable: the same call may succeed later without a change.
    detail: JSON values for programs; never a secret.
    """

    family: ClassVar[str] = "internal"

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        retriable: bool = False,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retriable = retriable
        self.detail = dict(detail or {})

    def body(self) -> ErrorBody:
        """The error as wire data."""
        return ErrorBody(
            code=self.code, message=self.message, hint=self.hint, retriable=self.retriable, detail=self.detail
        )

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f" {self.hint}" if self.hint else "")


class InvalidInput(SkerryError):
    """The caller sent something malformed, out of range or contradictory."""

    family = "invalid"


class TooLarge(InvalidInput):
    """The input is over a bound of `shared.limits`."""

    family = "too_large"


class Unauthorised(SkerryError):
    """Nobody we know: no token or certificate, or one that is not valid."""

    family = "unauthorised"


class Forbidden(SkerryError):
    """Known, but not allowed to do this."""

    family = "forbidden"


class NotFound(SkerryError):
    """The thing named does not exist, or the caller may not know that it does."""

    family = "not_found"


class Conflict(SkerryError):
    """The request contradicts what is stored now."""

    family = "conflict"


class Untrusted(SkerryError):
    """A signature, digest, counter or expiry did not hold; nothing was changed."""

    family = "untrusted"


class Unavailable(SkerryError):
    """A peer or a part of this system cannot be reached or is too busy."""

    family = "unavailable"


class StorageFailure(SkerryError):
    """The disk refused or lost something."""

    family = "storage"


class InternalError(SkerryError):
    """A defect of Skerry itself."""

    family = "internal"


EXIT_CODES: Mapping[str, int] = {
    "internal": 1,
    "invalid": 2,
    "too_large": 2,
    "unauthorised": 3,
    "forbidden": 3,
    "not_found": 4,
    "conflict": 5,
    "untrusted": 6,
    "unavailable": 7,
    "storage": 8,
}
"""Exit code of a command by the family of the error that ended it; 0 is success, 130 is Ctrl-C."""
