"""The counters of one window of one version, and their form as a message. Pure: values in, values out.

Every number is an integer that only grows within a window. Taking a window apart again (from a snapshot, or from an
application that predicts in its own process) and adding it gives the same counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from shared import limits
from shared.drift.check import confusion_side, outcomes_of
from shared.drift.counts import pack_counts, unpack_counts
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.reference import Reference
from shared.wire.window import Feedback, Finding, Window

__all__ = ["Tally"]

_MOST = limits.MAX_WINDOW_ROWS_COUNT


class Tally:
    """Counts of rows, cells, scores, causes and truths. Not thread-safe."""

    def __init__(self, reference: Reference | None) -> None:
        columns = 0 if reference is None or reference.classes is None else reference.classes.columns
        features = 0 if reference is None else len(reference.features)
        self.side = confusion_side(reference)
        self.cells = np.zeros((features, CELLS), np.uint32)
        self.scores = np.zeros(SCORE_BINS * columns, np.uint32)
        self.confusion = np.zeros((self.side, self.side), np.uint32)
        self.rows = self.predicted = self.skipped = 0
        self.refused: Counter[str] = Counter()
        self.row_causes: Counter[str] = Counter()
        self.labelled = self.errors = self.unknown = 0
        self.outcomes: list[int] = []

    @property
    def is_empty(self) -> bool:
        """Is there nothing to tell?"""
        counted = (self.rows, self.skipped, self.labelled, self.unknown)
        return not any(counted) and not self.refused

    @property
    def is_full(self) -> bool:
        """Must the window end, because a counter could leave its bounds?"""
        return max(self.rows, self.labelled) > _MOST // 2

    def truth(self, predicted: int, true: int, wrong: bool) -> None:
        """One answer whose truth became known; columns count from 0, and `side - 1` is "none of them"."""
        self.labelled += 1
        self.errors += wrong
        self.outcomes.append(int(wrong))
        del self.outcomes[: -limits.MAX_WINDOW_OUTCOMES_COUNT]
        if self.side:
            self.confusion[predicted, true] += 1

    def feedback(self) -> Feedback:
        """The truths as they are told."""
        return Feedback(
            labelled=self.labelled,
            errors=self.errors,
            unknown=min(self.unknown, _MOST),
            outcomes_count=len(self.outcomes),
            outcomes=np.packbits(np.array(self.outcomes, np.uint8)).tobytes(),
            confusion=pack_counts(self.confusion) if self.labelled else b"",
        )

    def fill(self, empty: Window, findings: Iterable[Finding]) -> Window:
        """A window with these counters; `empty` says whose it is and when."""
        return Window(
            schema_version=empty.schema_version,
            model=empty.model,
            version=empty.version,
            series=empty.series,
            window_id=empty.window_id,
            started_s=empty.started_s,
            ended_s=empty.ended_s,
            arm=empty.arm,
            reference_sha256=empty.reference_sha256,
            rows=self.rows,
            predicted=self.predicted,
            skipped=self.skipped,
            cells=pack_counts(self.cells),
            scores=pack_counts(self.scores),
            row_causes=_bounded(self.row_causes),
            refused=_bounded(self.refused),
            findings=list(findings),
            feedback=self.feedback(),
        )

    def add(self, window: Window) -> None:
        """Count what a window has counted; error `counts.malformed` when it is of another reference."""
        cells = unpack_counts(window.cells, self.cells.size).reshape(self.cells.shape)
        scores = unpack_counts(window.scores, self.scores.size)
        told = window.feedback
        confusion = unpack_counts(told.confusion, self.confusion.size if told.confusion else 0)
        self.cells += cells.astype(np.uint32)
        self.scores += scores.astype(np.uint32)
        if confusion.size:
            self.confusion += confusion.reshape(self.confusion.shape).astype(np.uint32)
        self.rows += window.rows
        self.predicted += window.predicted
        self.skipped += window.skipped
        self.refused.update(window.refused)
        self.row_causes.update(window.row_causes)
        self.labelled += told.labelled
        self.errors += told.errors
        self.unknown += told.unknown
        self.outcomes = [*self.outcomes, *outcomes_of(told).tolist()][-limits.MAX_WINDOW_OUTCOMES_COUNT :]


def _bounded(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: min(count, _MOST) for name, count in sorted(counts.items()) if count}
