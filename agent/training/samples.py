"""A labelled sample as the daemon hands it to the process that keeps samples, and what that answers.

A sample is the raw input of the model, not the extractor's embedding: it is still of use when the extractor is another
one, and an embedding is computed again in less time than one epoch of training takes. `space` names what the class
numbers mean (`agent.drift.feedback.label_space`), so samples of versions with other classes are never mixed.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from agent.training.settings import SampleSettings
from shared import limits
from shared.errors import ErrorBody
from shared.wire.types import ModelName, Version

__all__ = [
    "MAX_CLASSES_COUNT",
    "MAX_OUTCOME_BYTES",
    "Batch",
    "Kept",
    "Outcome",
    "Sample",
    "decode_batch",
    "decode_outcome",
]

MAX_CLASSES_COUNT = 10_000
MAX_OUTCOME_BYTES = limits.KIB + MAX_CLASSES_COUNT * 128
Space = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One raw input (`data`, C order, of `dtype` and `shape`) and its true class.

    It is stored as it is: fields of a later software are ignored by an earlier one, and stay in the file.
    """

    model: ModelName
    version: Version
    space: Space
    label: Annotated[int, Meta(ge=0, lt=limits.MAX_LABELS_COUNT)]
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Annotated[list[int], Meta(max_length=6)]
    data: Annotated[bytes, Meta(min_length=1, max_length=limits.MAX_SAMPLE_BYTES)]


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples that came since the erasure `epoch`; after another one they are not kept. Empty: only tend the buffer.

    dropped: samples that were given up before, for want of room. min_free_bytes: of the disk, which stay free.
    """

    settings: SampleSettings
    epoch: str
    samples: list[Sample]
    dropped: Annotated[int, Meta(ge=0)] = 0
    min_free_bytes: Annotated[int, Meta(ge=0)] = 0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the buffer holds. lost: records that were damaged. dropped: samples for which there was no room.

    classes: how many of each model, space and class are kept, and how many of it were seen; of the first
    `MAX_CLASSES_COUNT`.
    """

    samples: int = 0
    bytes: int = 0
    file_bytes: int = 0
    lost: int = 0
    dropped: int = 0
    classes: list[tuple[str, str, int, int, int]] = []


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: the buffer afterwards, or why nothing was kept. erased: it was older than an erasure."""

    kept: Kept = Kept()
    erased: bool = False
    error: ErrorBody | None = None


_BATCH, _OUTCOME = msgspec.msgpack.Decoder(Batch), msgspec.msgpack.Decoder(Outcome)


def decode_batch(data: bytes) -> Batch:
    """The batch in these bytes; msgspec's errors when it is none."""
    return _BATCH.decode(data)


def decode_outcome(data: bytes) -> Outcome:
    """The outcome in these bytes; msgspec's errors when it is none."""
    return _OUTCOME.decode(data)
