"""A registry with one watched version, and windows of its devices, for tests of the hub's side of monitoring."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from sqlalchemy import insert

from hub.monitoring.references import Pair, Watched
from hub.monitoring.sums import shape_of
from hub.store.database import Connection, Database
from hub.store.schema import blobs, devices, models, versions
from shared.drift.counts import pack_counts
from shared.drift.layout import BINS, CELLS, SCORE_BINS
from shared.drift.reference import Calibration, Reference
from shared.wire.window import Feedback, Window
from tests.drift.kit import columns_reference

__all__ = ["CALM", "DIGEST", "REFERENCE", "WATCHED", "Kept", "a_window", "register", "rows_of"]

_RANDOM = np.random.default_rng(5)
CALM = _RANDOM.normal(0, 1, (4000, 4)).astype(np.float32)
REFERENCE, _, _BYTES = columns_reference(CALM)
DIGEST = hashlib.sha256(_BYTES).hexdigest()


def _calibration(reference: Reference) -> Calibration:
    assert reference.classes is not None
    columns = reference.classes.columns
    total = [100] * (SCORE_BINS * columns)
    correct = [50 + int(50 * (b + 0.5) / SCORE_BINS) for b in range(SCORE_BINS) for _ in range(columns)]
    return Calibration(rows=sum(total), columns=columns, total=total, correct=correct)


WATCHED = Watched(REFERENCE, DIGEST, _calibration(REFERENCE), shape_of(REFERENCE))


class Kept:
    """References that are at hand."""

    def __init__(self, found: Mapping[Pair, Watched] | None = None) -> None:
        self.found = {("table", 1): WATCHED} if found is None else dict(found)

    def get(self, connection: Connection, pairs: Collection[Pair]) -> Mapping[Pair, Watched]:
        return {pair: self.found[pair] for pair in pairs if pair in self.found}


def register(database: Database, names: Collection[str], profile: str = "pi") -> None:
    """Devices, and version 1 of `table`."""
    with database.write() as connection:
        connection.execute(
            insert(devices),
            [
                {"device_id": d, "status": "active", "profile": profile, "hardware_id": "", "enrolled_s": 1.0}
                for d in names
            ],
        )
        who: dict[str, Any] = {"created_s": 1.0, "created_by": "test"}
        connection.execute(insert(models).values(model="table", description="", gate={}, bake_s=0, **who))
        connection.execute(insert(blobs).values(sha256="1" * 64, bytes=1, kind="bundle", created_s=1.0))
        release = {"status": "approved", "bundle_sha256": "1" * 64, "bundle_bytes": 1, "manifest": "", "card": ""}
        connection.execute(insert(versions).values(model="table", version=1, **release, **who))


def rows_of(random: np.random.Generator, rows: int, shift: float = 0.0, feature: int = 0) -> Any:
    """Cells of calm rows, one feature of which may be shifted."""
    x = random.normal(0, 1, (rows, 4))
    x[:, feature] += shift
    cells = np.zeros((len(REFERENCE.features), CELLS), np.int64)
    p = 1 / (1 + np.exp(-x[:, 0]))
    table = [*(x[:, i] for i in range(4)), p, 1 - p]
    for place, feature_ in enumerate(REFERENCE.features):
        values = table[place] if place < len(table) else np.zeros(rows)
        bins = np.searchsorted(np.asarray(feature_.edges), values.astype(np.float32), side="right")
        cells[place, :BINS] = np.bincount(bins, minlength=BINS)[:BINS]
    return cells


def a_window(number: int = 1, rows: int = 100, seed: int = 0, **more: Any) -> Window:
    """A window of `rows` rows that adds up."""
    shift, feature = more.pop("shift", 0.0), more.pop("feature", 0)
    cells = more.pop("cells", None)
    if cells is None:
        cells = rows_of(np.random.default_rng((seed, number)), rows, shift, feature)
    scores = np.zeros((SCORE_BINS, WATCHED.shape.columns), np.int64)
    if scores.size:
        scores[:, :] = rows // scores.size
        scores[-1, -1] += rows - int(scores.sum())
    fields: dict[str, Any] = {
        "model": "table",
        "version": 1,
        "series": "5" * 16,
        "window_id": number,
        "started_s": 10.0 * number,
        "ended_s": 10.0 * number + 9,
        "reference_sha256": DIGEST,
        "rows": rows,
        "predicted": rows,
        "cells": pack_counts(cells),
        "scores": pack_counts(scores),
        "feedback": Feedback(),
    }
    return Window(**(fields | more))
