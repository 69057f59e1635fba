"""Windows of many devices as sums: a vector of counts and some totals by version, profile, arm and period. Pure.

Rules:
- A vector holds, one behind the other, what `read_window` gives and what goes with it: cells, scores, confusion,
  findings (rows by feature and cause) and row causes. All of it is int64 and adds up, in any order.
- The shape comes from the version's reference alone, so all windows of one version have one shape.
- Noise for privacy adds its variance, so that a test may widen by it.
- The newest single outcomes stay in their order of arrival, at most `MAX_OUTCOMES_COUNT` a period; those beyond it are
  still in the totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from shared.drift.check import WindowCounts, confusion_side, histograms, outcomes_of
from shared.drift.counts import Counts
from shared.drift.layout import CELLS, SCORE_BINS, Cause, RowCause
from shared.drift.privacy import variance
from shared.drift.reference import Reference
from shared.wire.window import Window

__all__ = [
    "FINDINGS",
    "MAX_OUTCOMES_COUNT",
    "Shape",
    "SumKey",
    "Sums",
    "add_counts",
    "add_window",
    "add_words",
    "merged",
    "shape_of",
    "split",
    "vector_of",
]

FINDINGS = (Cause.STUCK, Cause.CONSTANT, Cause.CLIPPED, Cause.UNIT)
MAX_OUTCOMES_COUNT = 65_536
_MAX_SKIPPED = 2**40  # so that no device overflows a column
_FINDING = {cause.value: place for place, cause in enumerate(FINDINGS)}
_ROW_CAUSES = tuple(RowCause)
_ROW_CAUSE = {cause.value: place for place, cause in enumerate(_ROW_CAUSES)}


class Shape(NamedTuple):
    """features, columns of classes, side of the confusion table, histograms of a window (for the noise)."""

    features: int
    columns: int
    side: int
    histograms: int

    @property
    def size(self) -> int:
        """Counts in a vector."""
        return (
            self.features * (CELLS + len(FINDINGS))
            + SCORE_BINS * self.columns
            + self.side * self.side
            + len(_ROW_CAUSES)
        )


class SumKey(NamedTuple):
    """What a row of sums is of. period_s: start of the period of receipt, by the hub's clock."""

    model: str
    period_s: int
    version: int
    profile: str
    arm: str


@dataclass(slots=True, kw_only=True)
class Sums:
    """Totals of windows. outcomes: one byte each, 1 for wrong."""

    vector: Counts
    windows: int = 0
    rows: int = 0
    predicted: int = 0
    skipped: int = 0
    labelled: int = 0
    errors: int = 0
    unknown: int = 0
    variance: float = 0.0
    outcomes: list[Counts] = field(default_factory=list)


class Parts(NamedTuple):
    """A vector taken apart; views. findings: [features, FINDINGS], row_causes: [RowCause]."""

    cells: Counts
    scores: Counts
    confusion: Counts
    findings: Counts
    row_causes: Counts

    def named_findings(self) -> dict[tuple[int, Cause], int]:
        """Rows by (feature, cause), without zeros."""
        places = zip(*np.nonzero(self.findings), strict=True)
        return {(int(i), FINDINGS[int(j)]): int(self.findings[i, j]) for i, j in places}

    def named_row_causes(self) -> dict[RowCause, int]:
        """Rows or requests by cause, without zeros."""
        return {cause: int(n) for cause, n in zip(_ROW_CAUSES, self.row_causes, strict=True) if n}


def shape_of(reference: Reference | None) -> Shape:
    """The shape of the windows of a version."""
    columns = 0 if reference is None or reference.classes is None else reference.classes.columns
    features = 0 if reference is None else len(reference.features)
    return Shape(features, columns, confusion_side(reference), histograms(reference))


def split(vector: Counts, shape: Shape) -> Parts:
    """The parts of a vector."""
    if vector.size != shape.size:
        raise ValueError("a vector of another shape")
    lengths = (
        shape.features * CELLS,
        SCORE_BINS * shape.columns,
        shape.side * shape.side,
        shape.features * len(FINDINGS),
        len(_ROW_CAUSES),
    )
    a, b, c, d, e = np.split(vector, np.cumsum(lengths)[:-1])
    return Parts(
        a.reshape(shape.features, CELLS),
        b.reshape(SCORE_BINS, shape.columns),
        c.reshape(shape.side, shape.side),
        d.reshape(shape.features, len(FINDINGS)),
        e,
    )


def add_window(sums: Sums, window: Window, counts: WindowCounts, shape: Shape) -> None:
    """Add one window, whose counts `read_window` has found right, to the sums."""
    add_counts(sums, counts.cells.reshape(-1), counts.scores.reshape(-1), shape)
    if counts.confusion.size:
        second = shape.features * CELLS + SCORE_BINS * shape.columns
        sums.vector[second : second + shape.side * shape.side] += counts.confusion.reshape(-1)
    add_words(sums, window, shape)


def add_counts(sums: Sums, cells: Counts, scores: Counts, shape: Shape) -> None:
    """Add cells and scores, of one window or of many added up, in the order of the vector."""
    first = shape.features * CELLS
    sums.vector[:first] += cells
    sums.vector[first : first + SCORE_BINS * shape.columns] += scores


def add_words(sums: Sums, window: Window, shape: Shape) -> None:
    """Add what a window says beside its packed counts."""
    third = shape.features * CELLS + SCORE_BINS * shape.columns + shape.side * shape.side
    for finding in window.findings:
        sums.vector[third + finding.feature * len(FINDINGS) + _FINDING[finding.cause]] += finding.rows
    if window.row_causes or window.refused:
        last = third + shape.features * len(FINDINGS)
        for cause, rows in _row_causes(window):
            sums.vector[last + _ROW_CAUSE.get(cause, _ROW_CAUSE[RowCause.OTHER])] += rows
    sums.windows += 1
    sums.rows += window.rows
    sums.predicted += window.predicted
    sums.skipped += min(window.skipped, _MAX_SKIPPED)
    feedback = window.feedback
    sums.labelled += feedback.labelled
    sums.errors += feedback.errors
    sums.unknown += feedback.unknown
    if window.epsilon:
        sums.variance += variance(window.epsilon, shape.histograms)
    if feedback.outcomes_count:
        sums.outcomes.append(outcomes_of(feedback))


def _row_causes(window: Window) -> Iterator[tuple[str, int]]:
    yield from window.row_causes.items()
    yield from window.refused.items()


def vector_of(window: Window, counts: WindowCounts, shape: Shape) -> Counts:
    """The vector of one window."""
    sums = Sums(vector=np.zeros(shape.size, np.int64))
    add_window(sums, window, counts, shape)
    return sums.vector


def merged(parts: Iterable[Sums], shape: Shape) -> Sums:
    """All of them in one; outcomes in the order given."""
    total = Sums(vector=np.zeros(shape.size, np.int64))
    for part in parts:
        total.vector += part.vector
        for name in ("windows", "rows", "predicted", "skipped", "labelled", "errors", "unknown", "variance"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        total.outcomes += part.outcomes
    return total
