"""Many windows of one version read at once: one table of counts instead of one array a window. Pure.

Rules:
- Nothing is decided here that `read_window` would decide otherwise. A window is in a table only if every check of
  `read_window` holds for it; all others (noise, confusion tables, whatever does not add up) are left to it one by one,
  and so is what to say of them.
- Counts stay as wide as they came; only sums are 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hub.monitoring.sums import Shape, Sums, add_counts
from shared.drift.check import problem_in_words
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.reference import Reference
from shared.wire.window import Window

if TYPE_CHECKING:
    from hub.monitoring.references import Watched

__all__ = ["Place", "Tables", "read_together"]

_Table = npt.NDArray[Any]
_WIDTHS: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


class Place(NamedTuple):
    """Where the counts of a window are: which table, which row."""

    table: int
    row: int


class _Counts(NamedTuple):
    """Cells [window, feature * CELLS] and scores [window, SCORE_BINS * columns] of windows that are equally wide."""

    cells: _Table
    scores: _Table


class Tables(NamedTuple):
    """places: of each window that was read, in the order they were given; None: `read_window` is to be asked."""

    places: list[Place | None]
    tables: list[_Counts]

    def add(self, sums: Sums, places: Iterable[Place], shape: Shape) -> None:
        """Add the cells and scores of the windows at `places`."""
        rows: dict[int, list[int]] = {}
        for table, row in places:
            rows.setdefault(table, []).append(row)
        for number, wanted in rows.items():
            cells, scores = (part[wanted].sum(axis=0, dtype=np.int64) for part in self.tables[number])
            add_counts(sums, cells, scores, shape)


def read_together(windows: Sequence[Window], watched: Watched) -> Tables:
    """The counts of those of `windows` (all of one version) that plainly add up."""
    found = Tables([None] * len(windows), [])
    reference = watched.reference
    if reference is None:
        return found
    groups: dict[tuple[int, int], list[int]] = {}
    for number, window in enumerate(windows):
        widths = _widths(window, watched)
        if widths is not None and not problem_in_words(window, reference):
            groups.setdefault(widths, []).append(number)
    for (cells_width, scores_width), numbers in groups.items():
        _read_group([windows[number] for number in numbers], numbers, (cells_width, scores_width), reference, found)
    return found


def _widths(window: Window, watched: Watched) -> tuple[int, int] | None:
    """Bytes a count in cells and scores (0: there are none), if they are plain and as many as there should be."""
    if window.reference_sha256 != watched.sha256 or window.epsilon or window.feedback.confusion:
        return None
    cells = _width(window.cells, watched.shape.features * CELLS)
    scores = _width(window.scores, watched.shape.columns * SCORE_BINS)
    return None if cells is None or scores is None else (cells, scores)


def _width(data: bytes, expected: int) -> int | None:
    if not data:
        return None if expected else 0
    width = data[0]
    return width if width in _WIDTHS and len(data) == 1 + expected * width and expected else None


def _read_group(
    windows: Sequence[Window], numbers: Sequence[int], widths: tuple[int, int], reference: Reference, found: Tables
) -> None:
    counts = _Counts(
        _table([window.cells for window in windows], widths[0]),
        _table([window.scores for window in windows], widths[1]),
    )
    rows = np.array([window.rows for window in windows], np.int64)
    predicted = np.array([window.predicted for window in windows], np.int64)
    inputs = len(reference.of("input"))
    sums = counts.cells.reshape(len(windows), -1, CELLS).sum(axis=2, dtype=np.int64)
    good = (sums[:, :inputs] == rows[:, None]).all(axis=1) & (sums[:, inputs:] == predicted[:, None]).all(axis=1)
    if counts.scores.size:
        good &= counts.scores.sum(axis=1, dtype=np.int64) == predicted
    for row in np.flatnonzero(good).tolist():
        found.places[numbers[row]] = Place(len(found.tables), row)
    found.tables.append(counts)


def _table(packed: Sequence[bytes], width: int) -> _Table:
    """Packed counts that are all equally wide and long, one row each."""
    if not width:
        return np.zeros((len(packed), 0), np.uint8)
    data = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -1)[:, 1:]
    return np.ascontiguousarray(data).view(_WIDTHS[width])
