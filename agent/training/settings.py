"""The settings of `samples` and `training`: what a device keeps of its own data, and how it trains on it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits

__all__ = ["SampleSettings", "TrainingSettings"]


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


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device's owner allows, within what the profile allows.

    enabled: whether offers are answered at all. require_secure_aggregation, min_client_noise: what the hub must promise
    about updates. busy_percent: how busy the processor may be with other work; 0: by the profile. idle_s: without a
    prediction for so long the device counts as idle. watch_s: how often a device that trains looks whether it still
    may. start_s: how long the training process may take until it is connected. rest_s: after that failed, for so long
    no offer is taken, doubled with each failure in a row. personal: whether a head of the device's own may serve;
    personal_samples, personal_margin: from how many held-out samples on, and by how much better it must be. trainer:
    `module:Class` of an own way to train; trainer_folder: a folder that it may read.
    """

    enabled: bool = True
    require_secure_aggregation: bool = False
    min_client_noise: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    busy_percent: Annotated[float, Meta(ge=0, le=100)] = 0.0
    idle_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    watch_s: Annotated[float, Meta(ge=0.05, le=3600)] = 2.0
    start_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    rest_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    personal: bool = True
    personal_samples: Annotated[int, Meta(ge=1, le=limits.MAX_SAMPLES_COUNT)] = 30
    personal_margin: Annotated[float, Meta(ge=0, le=1)] = 0.02
    trainer: Annotated[str, Meta(max_length=256, pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?\Z")] = ""
    trainer_folder: Annotated[str, Meta(max_length=4096, pattern=r"^(/.*)?\Z")] = ""
