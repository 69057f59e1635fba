"""Part of `tests.bench.drift`: windows of many devices checked and added up, as the hub does it in batches of its loop.

Windows have 32 features, 3 kB as 32-bit counts. Beside it: one by one, which the hub does where a window has noise or a
confusion table. Both must give the sum that is known from the counts before they were packed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hub.messaging.ingest import IngestLoopSettings
from hub.monitoring.references import Watched
from hub.monitoring.sums import Shape, Sums, add_window, add_words, shape_of
from hub.monitoring.together import read_together
from shared.drift.check import read_window
from shared.drift.counts import Counts, pack_counts
from shared.drift.layout import BINS, CELLS, SCORE_BINS
from shared.wire.window import Feedback, Window
from tests.drift.kit import columns_reference

__all__ = ["merging"]

_FEATURES, _ROWS, _DIFFERENT = 30, 1000, 100  # and two outputs
Merge = Callable[[Sums, Sequence[Window], Watched], None]


def _watched(seed: int) -> Watched:
    x = np.random.default_rng(seed).normal(0, 1, (4000, _FEATURES)).astype(np.float32)
    reference, _, data = columns_reference(x)
    return Watched(reference, hashlib.sha256(data).hexdigest(), None, shape_of(reference))


def _window(watched: Watched, number: int) -> tuple[Window, Counts]:
    """A window that adds up, and its counts."""
    random, shape = np.random.default_rng(number), watched.shape
    cells = np.zeros((shape.features, CELLS), np.int64)
    cells[:, :BINS] = random.multinomial(_ROWS, np.full(BINS, 1.0 / BINS), shape.features)
    scores = random.multinomial(_ROWS, np.full(SCORE_BINS * shape.columns, 1.0 / (SCORE_BINS * shape.columns)))
    window = Window(
        model="table",
        version=1,
        series="5" * 16,
        window_id=number + 1,
        started_s=0.0,
        ended_s=900.0,
        reference_sha256=watched.sha256,
        rows=_ROWS,
        predicted=_ROWS,
        cells=pack_counts(cells),
        scores=pack_counts(scores),
        feedback=Feedback(),
    )
    return window, np.concatenate([cells.reshape(-1), scores])


def _in_batches(sums: Sums, windows: Sequence[Window], watched: Watched) -> None:
    batch = IngestLoopSettings().batch_count
    for first in range(0, len(windows), batch):
        some = windows[first : first + batch]
        tables = read_together(some, watched)
        for window in some:
            add_words(sums, window, watched.shape)
        tables.add(sums, [place for place in tables.places if place is not None], watched.shape)


def _one_by_one(sums: Sums, windows: Sequence[Window], watched: Watched) -> None:
    for window in windows:
        add_window(sums, window, read_window(window, watched.reference, watched.sha256), watched.shape)


def _measured(way: str, merge: Merge, windows: int, watched: Watched, limit_s: float | None) -> dict[str, Any]:
    made = [_window(watched, number) for number in range(_DIFFERENT)]
    given = [made[number % _DIFFERENT][0] for number in range(windows)]
    wanted = sum(counts * (windows // _DIFFERENT) for _, counts in made)
    took = []
    for _ in range(3):
        sums = Sums(vector=np.zeros(watched.shape.size, np.int64))
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        merge(sums, given, watched)
        took.append((time.process_time() - began_cpu_s, time.perf_counter() - began_s))
    cpu_s, wall_s = min(took)
    exact = bool((sums.vector[: _counted(watched.shape)] == wanted).all()) and sums.windows == windows
    row: dict[str, Any] = {"way": way, "windows": windows, "cpu_s": round(cpu_s, 4), "wall_s": round(wall_s, 4)}
    row |= {"features": watched.shape.features, "exact": exact}
    if limit_s is None:
        return row
    return row | {"limit_s": limit_s, "kept": exact and cpu_s <= limit_s}


def _counted(shape: Shape) -> int:
    return shape.features * CELLS + SCORE_BINS * shape.columns


def merging(seed: int, most: int = 100_000) -> list[dict[str, Any]]:
    """The best of three of each; `most`: windows of the larger case."""
    watched = _watched(seed)
    return [
        _measured("as the hub does", _in_batches, 1000, watched, 0.05),
        _measured("as the hub does", _in_batches, most, watched, 5.0 * most / 100_000),
        _measured("one by one", _one_by_one, 1000, watched, None),
    ]
