"""What the hub and the delta's worker process say to each other: one JSON request, one JSON answer, both bounded."""

from __future__ import annotations

import msgspec

from shared.errors import ErrorBody
from shared.sandbox.wish import Shortfall

__all__ = ["DELTA_FILE", "Limits", "Request", "Response"]

DELTA_FILE = "delta"
"""The name of the result in the scratch folder."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker may use. `memory_bytes` bounds its address space; `timeout_s` is wall time.

    `user`: the account that it changes to when the hub is root ("" stays root, without its powers).
    """

    memory_bytes: int = 1024**3
    cpu_s: int = 600
    timeout_s: float = 900.0
    user: str = "nobody"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Make the delta from the bundle in the file `old` to the one in `new`. `scratch`: an empty folder."""

    scratch: str
    old: str
    new: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The delta's length and which bundles it is between, or the `problem`.

    `shortfalls`: what this system does not give of the worker's confinement.
    """

    bytes: int = 0
    from_sha256: str = ""
    to_sha256: str = ""
    problem: ErrorBody | None = None
    shortfalls: list[Shortfall] = []
