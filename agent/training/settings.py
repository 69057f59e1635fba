"""The settings of `samples`: what a device keeps of its own data to train on."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits

__all__ = ["SampleSettings"]


class SampleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of the sample buffer (`agent.training.buffer`), which also needs a profile that allows training.

    per_class_count: of one class of one model. max_count: of all. max_bytes: of the file. hold_s: how long samples wait
    in memory for others before they are written together. waiting_bytes: inputs in memory, of requests whose truth is
    not known yet, and again of samples that wait to be written.
    """

    enabled: bool = True
    per_class_count: Annotated[int, Meta(ge=1, le=100_000)] = 200
    max_count: Annotated[int, Meta(ge=1, le=limits.MAX_SAMPLES_COUNT)] = 5000
    max_bytes: Annotated[int, Meta(ge=64 * limits.KIB, le=limits.MAX_SAMPLE_FILE_BYTES)] = 16 * limits.MIB
    retention_days: Annotated[float, Meta(gt=0, le=3660)] = 30.0
    hold_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    waiting_bytes: Annotated[int, Meta(ge=0, le=256 * limits.MIB)] = limits.MIB
