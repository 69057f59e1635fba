"""What the hub and the gate's worker process say to each other: one JSON request, one JSON answer, both bounded."""

from __future__ import annotations

import msgspec

from shared.errors import ErrorBody
from shared.sandbox.wish import Shortfall

__all__ = ["BundleFile", "Limits", "Measured", "Request", "Response"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker may use. `memory_bytes` bounds its address space; `timeout_s` is wall time.

    `user`: the account that it changes to when the hub is root ("" stays root, without its powers).
    """

    memory_bytes: int = 4 * 1024**3
    cpu_s: int = 300
    timeout_s: float = 600.0
    files: int = 128
    user: str = "nobody"


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle to be measured; path on this machine."""

    path: str
    sha256: str
    bytes: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Measure `candidate`, and `production` on the same data if it is given. `scratch`: an empty folder."""

    scratch: str
    dataset: str
    candidate: BundleFile
    production: BundleFile | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one version; `problem` says why some or all of it could not be."""

    values: dict[str, float] = {}
    problem: ErrorBody | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """`refused`: the data set does not fit, which says nothing about the version.

    `shortfalls`: what this system does not give of the worker's confinement.
    """

    candidate: Measured = Measured()
    production: Measured | None = None
    refused: ErrorBody | None = None
    shortfalls: list[Shortfall] = []
