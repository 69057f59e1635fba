"""What a device saw between two moments, as counts: kind `window`; and what applications counted: kind `metrics`.

A window is of one model version. `series` names one life of the device's counters and `window_id` only grows within
it, so the hub counts a window once however often it comes: it adds a window only if its id is above the highest one of
that device, model, version and series. A device that lost its counters begins a new series. Counts that come as bytes
are packed as `shared.drift.counts` says, and mean nothing without the reference whose digest stands beside them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared import limits
from shared.wire.types import Count, Epoch, ModelName, Sha256, TimeS, Version, Word

__all__ = ["ARM_PATTERN", "Feedback", "Finding", "METRIC_PATTERN", "Metric", "Metrics", "Window"]

METRIC_PATTERN = rf"^[a-z][a-z0-9_]{{0,{limits.MAX_METRIC_NAME_CHARS - 1}}}\Z"
ARM_PATTERN = r"^([a-z0-9][a-z0-9_-]{0,31})?\Z"
Arm = Annotated[str, Meta(pattern=ARM_PATTERN)]
Rows = Annotated[int, Meta(ge=0, le=limits.MAX_WINDOW_ROWS_COUNT)]
Value = Annotated[float, Meta(ge=-limits.MAX_METRIC_VALUE, le=limits.MAX_METRIC_VALUE)]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A feature (by its place in the reference) had a fault that only a sequence of rows shows, in `rows` rows.

    detail: for `unit`, which change of unit fits (`*1000`, `*1.8+32`).
    """

    feature: Annotated[int, Meta(ge=0, lt=limits.MAX_DRIFT_FEATURES_COUNT)]
    cause: Literal["stuck", "constant", "clipped", "unit"]
    rows: Rows
    detail: Word = ""


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions whose truth became known. `outcomes`: the newest of them in order, one bit each (1: wrong), the first
    in the highest bit of the first byte; `outcomes_count` bits count. `confusion`: packed, predicted column by true
    column, each with one more for "not among them"; empty when there are too many classes or it is no classifier.
    `unknown`: answers about a request that is not remembered."""

    labelled: Rows = 0
    errors: Rows = 0
    unknown: Rows = 0
    outcomes_count: Annotated[int, Meta(ge=0, le=limits.MAX_WINDOW_OUTCOMES_COUNT)] = 0
    outcomes: Annotated[bytes, Meta(max_length=limits.MAX_WINDOW_OUTCOMES_COUNT // 8)] = b""
    confusion: Annotated[bytes, Meta(max_length=limits.MAX_WINDOW_CONFUSION_BYTES)] = b""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One window. rows: looked at; each feature of the input has one count for each of them. predicted: of those, how
    many the model answered; features of output and embedding, and `scores`, have one count for each of these. skipped:
    rows that were not looked at, because there were too many. refused: requests that were refused, by cause.

    cells: packed, 24 for each feature of the reference. scores: packed, score bin by score bin, one count a class
    column. row_causes: rows by cause, such as `duplicate`. epsilon: 0, or the privacy of the noise in cells and scores,
    which may then be negative (`shared.drift.privacy`); findings and single outcomes are then left out.
    arm: which side of an experiment answered; empty: the version that serves.
    """

    schema_version: int = 1
    model: ModelName
    version: Version
    series: Epoch
    window_id: Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
    started_s: TimeS
    ended_s: TimeS
    arm: Arm = ""
    reference_sha256: Sha256 | None = None
    rows: Rows = 0
    predicted: Rows = 0
    skipped: Count = 0
    cells: Annotated[bytes, Meta(max_length=limits.MAX_WINDOW_CELLS_BYTES)] = b""
    scores: Annotated[bytes, Meta(max_length=limits.MAX_WINDOW_SCORES_BYTES)] = b""
    row_causes: Annotated[dict[Word, Rows], Meta(max_length=16)] = {}
    refused: Annotated[dict[Word, Rows], Meta(max_length=16)] = {}
    findings: Annotated[list[Finding], Meta(max_length=4 * limits.MAX_DRIFT_FEATURES_COUNT)] = []
    feedback: Feedback = Feedback()
    epsilon: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One counter or gauge of an application, over the time of its message.

    counter: `total` is what was added, `count` how often. gauge: `count` values came, with their total, least,
    greatest and last.
    """

    name: Annotated[str, Meta(pattern=METRIC_PATTERN)]
    kind: Literal["counter", "gauge"]
    model: ModelName | None = None
    version: Version | None = None
    arm: Arm = ""
    count: Annotated[int, Meta(ge=1, le=limits.MAX_WINDOW_ROWS_COUNT)]
    total: Value
    least: Value = 0.0
    greatest: Value = 0.0
    last: Value = 0.0


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """What applications on the device counted since the last such message."""

    schema_version: int = 1
    started_s: TimeS
    ended_s: TimeS
    metrics: Annotated[list[Metric], Meta(min_length=1, max_length=limits.MAX_METRICS_COUNT)]
