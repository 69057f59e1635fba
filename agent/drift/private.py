"""A window with noise in place of exact counts, when the settings ask for privacy (`shared.drift.privacy`).

What cannot be protected by noise of this size is left out: findings, single outcomes and causes of rows.
"""

from __future__ import annotations

import math
import secrets

import msgspec
import numpy as np

from shared.drift.check import confusion_side, histograms
from shared.drift.counts import pack_counts, unpack_counts
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.privacy import Geometric, noisy
from shared.drift.reference import Reference
from shared.preprocess.kernels import Array
from shared.wire.window import Feedback, Window

__all__ = ["privatise", "system_geometric"]


def system_geometric(p: float, size: int) -> Array:
    """Geometric numbers from 1, from the system's randomness: a guessable generator would hide nothing."""
    bits = np.frombuffer(secrets.token_bytes(8 * size), np.uint64) >> np.uint64(11)
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53
    return np.ceil(np.log(uniform) / math.log1p(-p)).astype(np.int64)


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
