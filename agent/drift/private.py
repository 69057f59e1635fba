"""A window with noise in place of exact counts, when the settings ask for privacy (`shared.drift.privacy`).

What cannot be protected by noise of this size is left out: findings, single outcomes and causes of rows.
"""

from __future__ import annotations

import msgspec
import numpy as np

from shared.drift.check import confusion_side, histograms
from shared.drift.counts import pack_counts, unpack_counts
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.privacy import Geometric, noisy
from shared.drift.reference import Reference
from shared.wire.window import Feedback, Window

__all__ = ["privatise"]


def privatise(window: Window, reference: Reference | None, epsilon: float, geometric: Geometric) -> Window:
    """The window as it may leave the device."""
    count = histograms(reference) + 1  # the confusion table is one more

    def hidden(data: bytes, size: int) -> bytes:
        if not data:
            return data
        counts = unpack_counts(data, size)
        found = noisy(counts, epsilon=epsilon, histograms=count, geometric=geometric)
        return pack_counts(np.clip(found, -(2**31), 2**31 - 1))

    columns = 0 if reference is None or reference.classes is None else reference.classes.columns
    features = 0 if reference is None else len(reference.features)
    side = confusion_side(reference)
    told = window.feedback
    return msgspec.structs.replace(
        window,
        epsilon=epsilon,
        cells=hidden(window.cells, features * CELLS),
        scores=hidden(window.scores, SCORE_BINS * columns),
        row_causes={},
        findings=[],
        feedback=Feedback(
            labelled=told.labelled,
            errors=told.errors,
            unknown=told.unknown,
            confusion=hidden(told.confusion, side * side),
        ),
    )
