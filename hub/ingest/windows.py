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
from hub.monitoring.sums import MAX_OUTCOMES_COUNT, SumKey, Sums, add_window, add_words
from hub.monitoring.together import Place, Tables, read_together
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


class _Told(NamedTuple):
    """A window of the batch."""

    speaker: Speaker
    envelope: Envelope
    window: Window


def _pair_of(window: Window) -> Pair:
    """The version that a window is of."""
    return window.model, window.version


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
        told = [_Told(speaker, envelope, window) for speaker in speakers for envelope, window in speaker.fold.windows]
        if told:
            named = {_pair_of(one.window) for one in told}
            watched = self._references.get(connection, named)
            ids = {one.speaker.device_id for one in told}
            highest = marks_of(connection, sorted(ids), {model for model, _ in named})
            taking = _Taking(counted, highest, watched, period_s, now)
            taking.take(told)
        self._metrics(connection, counted, speakers, period_s)
        return counted

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


class _Taking:
    """Takes the windows of a batch in the order in which they were told."""

    def __init__(
        self,
        counted: Counted,
        highest: dict[SeriesKey, int],
        watched: Mapping[Pair, Watched],
        period_s: int,
        now: float,
    ) -> None:
        self._counted = counted
        self._highest = highest
        self._watched = watched
        self._period_s = period_s
        self._now = now
        self._later: dict[SumKey, list[Place]] = {}

    def take(self, told: Sequence[_Told]) -> None:
        """All of them; the counts of those that plainly add up are read and added together."""
        of_pair: dict[Pair, list[int]] = {}
        for number, one in enumerate(told):
            of_pair.setdefault(_pair_of(one.window), []).append(number)
        places: list[Place | None] = [None] * len(told)
        tables: dict[Pair, Tables] = {}
        for pair, numbers in of_pair.items():
            if pair in self._watched:
                tables[pair] = read_together([told[number].window for number in numbers], self._watched[pair])
                for number, place in zip(numbers, tables[pair].places, strict=True):
                    places[number] = place
        for one, place in zip(told, places, strict=True):
            if is_new(self._highest, one.speaker.device_id, one.window):
                self._one(one, place)
        for key, found in self._later.items():
            pair = (key.model, key.version)
            tables[pair].add(self._counted.sums[key], found, self._watched[pair].shape)

    def _one(self, one: _Told, place: Place | None) -> None:
        speaker, envelope, window = one
        try:
            watched = _usable(self._watched.get(_pair_of(window)), window)
            counts = read_window(window, watched.reference, watched.sha256) if place is None else None
        except InvalidInput as error:
            speaker.fold.refuse(envelope, error.code, error.message)
            return
        series = key_of(speaker.device_id, window)
        self._highest[series] = self._counted.marks[series] = window.window_id
        key = SumKey(window.model, self._period_s, window.version, speaker.profile, window.arm)
        sums = self._counted.sums.get(key)
        if sums is None:
            sums = self._counted.sums[key] = Sums(vector=np.zeros(watched.shape.size, np.int64))
        if counts is not None:
            add_window(sums, window, counts, watched.shape)
        elif place is not None:
            self._later.setdefault(key, []).append(place)
            add_words(sums, window, watched.shape)
        if not window.arm:
            if window.feedback.outcomes_count:
                self._counted.outcomes.append(_outcomes(speaker.device_id, window, self._period_s, self._now))
            self._counted.latest[(speaker.device_id, window.model)] = {
                "device_id": speaker.device_id,
                "model": window.model,
                "version": window.version,
                "profile": speaker.profile,
                "period_s": self._period_s,
                "received_s": self._now,
                "window": bytes(envelope.body),
            }


def _usable(watched: Watched | None, window: Window) -> Watched:
    if watched is None:
        raise InvalidInput("window.unwatched", f"No version {window.version} of {window.model} is watched.")
    if 0 < window.epsilon < LEAST_EPSILON:
        raise InvalidInput("window.inconsistent", "The window has more noise than anybody could use.")
    return watched


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
