"""Reading a window against its reference: nothing that does not add up is counted.

Rules: the window names the reference by digest; every feature of the input has exactly `rows` counts, everything that
follows a prediction exactly `predicted`; noise is accepted only where the window says so. Errors `window.mismatch`
(another reference), `window.inconsistent`, `counts.malformed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared import limits
from shared.drift.counts import Counts, unpack_counts
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.reference import Reference
from shared.errors import InvalidInput
from shared.wire.window import Feedback, Window

__all__ = ["WindowCounts", "confusion_side", "histograms", "outcomes_of", "problem_in_words", "read_window"]


@dataclass(frozen=True, slots=True)
class WindowCounts:
    """cells [features, CELLS], scores [SCORE_BINS, columns], confusion [side, side] (either may be empty); int64."""

    cells: Counts
    scores: Counts
    confusion: Counts


def histograms(reference: Reference | None) -> int:
    """How many histograms a window of this reference has, which is what a row can change (`shared.drift.privacy`)."""
    if reference is None:
        return 1
    return len(reference.features) + (reference.classes is not None)


def confusion_side(reference: Reference | None) -> int:
    """The side of the confusion table: the columns and one for "none of them"; 0: there is no table."""
    columns = 0 if reference is None or reference.classes is None else reference.classes.columns
    return columns + 1 if 0 < columns <= limits.MAX_DRIFT_CONFUSION_COUNT else 0


def read_window(window: Window, reference: Reference | None, reference_sha256: str | None) -> WindowCounts:
    """The counts of a window; without a reference there are none, and the window must not claim any."""
    if window.reference_sha256 != reference_sha256:
        raise InvalidInput("window.mismatch", "The window was counted against another reference.")
    columns = 0 if reference is None or reference.classes is None else reference.classes.columns
    features = 0 if reference is None else len(reference.features)
    side = confusion_side(reference)
    confusion = unpack_counts(window.feedback.confusion, side * side if window.feedback.confusion else 0)
    found = WindowCounts(
        unpack_counts(window.cells, features * CELLS).reshape(features, CELLS),
        unpack_counts(window.scores, SCORE_BINS * columns).reshape(SCORE_BINS, columns),
        confusion.reshape(side, side) if confusion.size else np.zeros((0, 0), np.int64),
    )
    problem = _problem(window, found, reference)
    if problem:
        raise InvalidInput("window.inconsistent", f"The window does not add up: {problem}.")
    return found


def problem_in_words(window: Window, reference: Reference | None) -> str:
    """What does not add up apart from the packed counts, or an empty text."""
    feedback = window.feedback
    if window.ended_s < window.started_s or window.predicted > window.rows:
        return "it ends before it begins, or more was predicted than looked at"
    if feedback.errors > feedback.labelled or not _outcomes_fit(feedback):
        return "more answers were wrong than were given"
    if reference is None or not window.findings:
        return ""
    if any(finding.feature >= len(reference.features) or finding.rows > window.rows for finding in window.findings):
        return "a finding is about no feature, or about more rows than there are"
    return ""


def _problem(window: Window, found: WindowCounts, reference: Reference | None) -> str:
    problem = problem_in_words(window, reference)
    if problem:
        return problem
    if found.confusion.size and int(found.confusion.sum()) > window.feedback.labelled:
        return "the confusion table has more than was labelled"
    if reference is None or window.epsilon:
        return ""
    if min(int(part.min()) for part in (found.cells, found.scores, found.confusion) if part.size) < 0:
        return "a count is negative"
    inputs = len(reference.of("input"))
    sums = found.cells.sum(axis=1)
    if (sums[:inputs] != window.rows).any() or (sums[inputs:] != window.predicted).any():
        return "a feature does not have one count for each row"
    if found.scores.size and int(found.scores.sum()) != window.predicted:
        return "the scores do not have one count for each row"
    return ""


def _outcomes_fit(feedback: Feedback) -> bool:
    if not feedback.outcomes_count:
        return True
    wrong = int(outcomes_of(feedback).sum()) if len(feedback.outcomes) * 8 >= feedback.outcomes_count else -1
    return 0 <= wrong <= feedback.errors and feedback.outcomes_count <= feedback.labelled


def outcomes_of(feedback: Feedback) -> Counts:
    """The single outcomes in order, 1 for wrong."""
    bits = np.unpackbits(np.frombuffer(feedback.outcomes, np.uint8), count=feedback.outcomes_count)
    return bits.astype(np.int64)
