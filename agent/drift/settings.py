"""The settings of `drift`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits

__all__ = ["DriftSettings"]


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted and how often it is told.

    window_s: length of a window. snapshot_s: at most so often are counts written to disk, so a power cut costs no more
    than that. max_rows_per_s: above this rate only every second, third, … row is looked at. feedback_count: requests
    remembered for an answer about the truth. epsilon: privacy of the noise on a window's counts; 0: no noise.
    """

    enabled: bool = True
    window_s: Annotated[float, Meta(ge=1, le=7 * 86400)] = 900.0
    snapshot_s: Annotated[float, Meta(ge=1, le=86400)] = 300.0
    max_rows_per_s: Annotated[float, Meta(ge=1, le=1e6)] = 2000.0
    feedback_count: Annotated[int, Meta(ge=0, le=limits.MAX_FEEDBACK_RECENT_COUNT)] = 4096
    metrics_interval_s: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    epsilon: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
