"""Body kind `health`: how versions did since the device's last such message. Integers only, and they all add up.

Rules: a message counts once, by its sequence number. A version appears when it served in the interval, or when a crash
of the agent while it served became known. What the agent cannot have counted is malformed: more errors than requests,
more disagreements than comparisons. `over_budget` are answers slower than the profile's `latency_p99_ms`; the
latencies are those of answers, in the buckets of `shared.latency`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits
from shared.latency import BUCKETS_COUNT
from shared.wire.types import Code, ModelName, Version

__all__ = ["Buckets", "Health", "ShadowHealth", "Tally", "VersionHealth"]

Tally = Annotated[int, Meta(ge=0, le=limits.MAX_HEALTH_COUNT)]
Buckets = Annotated[
    list[tuple[Annotated[int, Meta(ge=0, lt=BUCKETS_COUNT)], Tally]],
    Meta(max_length=BUCKETS_COUNT),
]


class ShadowHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate did beside the version that served, on the same inputs.

    compared: both answered. disagreed: their answers differ. errors: the live version answered and the candidate did
    not. skipped: requests of the share that found the candidate busy or its processor budget used up.
    crashes: the candidate ended its process. stopped: the code of why it no longer runs; empty while it does.
    """

    version: Version
    compared: Tally = 0
    disagreed: Tally = 0
    errors: Tally = 0
    over_budget: Tally = 0
    skipped: Tally = 0
    crashes: Tally = 0
    stopped: Code = ""
    latency: Buckets = []

    def __post_init__(self) -> None:
        if max(self.disagreed, self.over_budget) > self.compared:
            raise ValueError("more disagreements or slow answers than comparisons")


class VersionHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How one version did while it served. crashes: the agent ended abnormally meanwhile."""

    model: ModelName
    version: Version
    requests: Tally = 0
    errors: Tally = 0
    over_budget: Tally = 0
    crashes: Tally = 0
    latency: Buckets = []
    shadow: ShadowHealth | None = None

    def __post_init__(self) -> None:
        if self.errors + self.over_budget > self.requests:
            raise ValueError("more errors and slow answers than requests")


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All versions that have something to tell. Sent every telemetry interval and before a version is replaced."""

    schema_version: int = 1
    versions: Annotated[list[VersionHealth], Meta(max_length=limits.MAX_HEALTH_VERSIONS_COUNT)] = []
