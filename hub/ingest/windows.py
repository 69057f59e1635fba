"""Windows and metrics of one batch: each window once, only if it adds up, and then into the sums of its version.

Rules:
- A window counts if its id is above the highest that was counted of its series; a repetition changes nothing and is no
  fault of anybody.
- It counts only against the reference that the version was released with (`window.unwatched`, `window.mismatch`,
  `window.inconsistent`, `counts.malformed`); one that does not is refused, counted, and leaves an event.
- A refused window is not remembered as counted, and never holds up the others.
- All writes are in the transaction of the batch, one bulk statement a table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from hub.ingest.fold import Fold
from hub.ingest.metrics import MAX_KEYS_COUNT, gather_metrics
from hub.monitoring.references import Pair, Watched
from hub.monitoring.sums import MAX_OUTCOMES_COUNT, SumKey, Sums, add_window
from hub.store.database import Connection
from hub.store.device_errors import put_outcomes
from hub.store.windows import (
    METRIC_KEY,
    SUM_KEY,
    add_metrics,
    known_metrics,
    lock_sums,
    marks_of,
    put_latest,
    put_marks,
    write_sums,
)
from shared.drift.check import read_window
from shared.drift.once import SeriesKey, is_new, key_of
from shared.errors import InvalidInput
from shared.wire.up import Envelope
from shared.wire.window import Window

__all__ = ["LEAST_EPSILON", "Counted", "NothingWatched", "Speaker", "Watching", "WindowBook", "period_start"]

LEAST_EPSILON = 1e-3
"""Noise above this says nothing any more, and would make every sum say nothing."""
_TOTALS = ("windows", "rows", "predicted", "skipped", "labelled", "errors", "unknown", "variance")


class Watching(Protocol):
    """Whoever knows the references of versions (`hub.monitoring.references`)."""

    def get(self, connection: Connection, pairs: Collection[Pair]) -> Mapping[Pair, Watched]:
        """Those of (model, version) that can be watched."""
        ...


class NothingWatched:
    """A hub without monitoring: every window is refused."""

    def get(self, connection: Connection, pairs: Collection[Pair]) -> Mapping[Pair, Watched]:
        """None of them."""
        return {}


class Speaker(NamedTuple):
    """A device of the batch, and what it said."""

    device_id: str
    profile: str
    fold: Fold


@dataclass(slots=True)
class Counted:
    """What a batch adds. latest: by (device, model)."""

    marks: dict[SeriesKey, int] = field(default_factory=dict)
    sums: dict[SumKey, Sums] = field(default_factory=dict)
    latest: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[dict[str, Any]] = field(default_factory=list)


def period_start(now: float, period_s: int) -> int:
    """The start of the period that a moment falls into."""
    return int(now // period_s) * period_s


class WindowBook:
    """Takes the windows and metrics of batches."""

    def __init__(self, references: Watching, period_s: int = 3600) -> None:
        self._references = references
        self._period_s = period_s

    def sort_out(self, connection: Connection, speakers: Sequence[Speaker], now: float) -> Counted:
        """What the batch adds; what is not taken is refused in its fold. Writes nothing."""
        counted = Counted()
        period_s = period_start(now, self._period_s)
        telling = [speaker for speaker in speakers if speaker.fold.windows]
        if telling:
            named = {(window.model, window.version) for s in telling for _, window in s.fold.windows}
            watched = self._references.get(connection, named)
            highest = marks_of(connection, [s.device_id for s in telling], {model for model, _ in named})
            for speaker in telling:
                for envelope, window in speaker.fold.windows:
                    if is_new(highest, speaker.device_id, window):
                        found = watched.get((window.model, window.version))
                        self._take(counted, highest, speaker, envelope, window, found, period_s, now)
        self._metrics(connection, counted, speakers, period_s)
        return counted

    def _take(
        self,
        counted: Counted,
        highest: dict[SeriesKey, int],
        speaker: Speaker,
        envelope: Envelope,
        window: Window,
        watched: Watched | None,
        period_s: int,
        now: float,
    ) -> None:
        try:
            if watched is None:
                raise InvalidInput("window.unwatched", f"No version {window.version} of {window.model} is watched.")
            if 0 < window.epsilon < LEAST_EPSILON:
                raise InvalidInput("window.inconsistent", "The window has more noise than anybody could use.")
            counts = read_window(window, watched.reference, watched.sha256)
        except InvalidInput as error:
            speaker.fold.refuse(envelope, error.code, error.message)
            return
        series = key_of(speaker.device_id, window)
        highest[series] = counted.marks[series] = window.window_id
        key = SumKey(window.model, period_s, window.version, speaker.profile, window.arm)
        sums = counted.sums.get(key)
        if sums is None:
            sums = counted.sums[key] = Sums(vector=np.zeros(watched.shape.size, np.int64))
        add_window(sums, window, counts, watched.shape)
        if not window.arm:
            if window.feedback.outcomes_count:
                counted.outcomes.append(_outcomes(speaker.device_id, window, period_s, now))
            counted.latest[(speaker.device_id, window.model)] = {
                "device_id": speaker.device_id,
                "model": window.model,
                "version": window.version,
                "profile": speaker.profile,
                "period_s": period_s,
                "received_s": now,
                "window": bytes(envelope.body),
            }

    def _metrics(self, connection: Connection, counted: Counted, speakers: Sequence[Speaker], period_s: int) -> None:
        said = [(metric, (s.fold, envelope)) for s in speakers for envelope, metric in s.fold.metrics]
        if not said:
            return
        named = {(m.model, m.version) for m, _ in said if m.model is not None and m.version is not None}
        watched = self._references.get(connection, named) if named else {}
        known = [one for one in said if one[0].model is None or (one[0].model, one[0].version) in watched]
        rows, full = gather_metrics(known, period_s, known_metrics(connection, period_s, MAX_KEYS_COUNT))
        counted.metrics = [{**dict(zip(METRIC_KEY, key, strict=True)), **row} for key, row in rows.items()]
        unknown = [one for one in said if one[0].model is not None and (one[0].model, one[0].version) not in watched]
        for refused, code in ((full, "metrics.too_many"), (unknown, "window.unwatched")):
            for metric, (fold, envelope) in {id(source[1]): (m, source) for m, source in refused}.values():
                fold.refuse(envelope, code, f"The metric {metric.name} is not counted.")  # once a message

    def write(self, connection: Connection, counted: Counted, now: float) -> None:
        """Write what `sort_out` gave; last in the transaction, because devices share these rows."""
        put_marks(connection, counted.marks, now)
        put_latest(connection, [row for _, row in sorted(counted.latest.items())])
        put_outcomes(connection, counted.outcomes)
        if counted.sums:
            keys = sorted(counted.sums)
            sizes = {tuple(key): counted.sums[key].vector.nbytes for key in keys}
            there = lock_sums(connection, [tuple(key) for key in keys], sizes)
            write_sums(connection, [_added(there[tuple(key)], counted.sums[key]) for key in keys])
        add_metrics(connection, counted.metrics)


def _outcomes(device_id: str, window: Window, period_s: int, now: float) -> dict[str, Any]:
    """What truths said of the device, kept until its period is judged."""
    return {
        "device_id": device_id,
        "model": window.model,
        "version": window.version,
        "series": window.series,
        "window_id": window.window_id,
        "period_s": period_s,
        "received_s": now,
        "count": window.feedback.outcomes_count,
        "outcomes": bytes(window.feedback.outcomes),
    }


def _added(row: Any, sums: Sums) -> dict[str, Any]:
    outcomes = bytes(row["outcomes"])
    room = MAX_OUTCOMES_COUNT - len(outcomes)
    fresh = np.concatenate(sums.outcomes)[:room].astype(np.uint8).tobytes() if sums.outcomes and room > 0 else b""
    there = np.frombuffer(bytes(row["vector"]), "<i8")
    return {
        **{name: row[name] for name in SUM_KEY},
        **{name: row[name] + getattr(sums, name) for name in _TOTALS},
        "vector": (there + sums.vector).astype("<i8").tobytes(),
        "outcomes": outcomes + fresh,
    }
