"""Watching one version: rows and answers are copied into a small buffer and counted many at once, after the answer.

Rules: `observe` never raises and costs a copy; whatever goes wrong in counting switches this monitor off, is told once,
and no prediction notices. Under load only every n-th row is looked at, and what was left out is counted. All methods
may be called from every thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from agent.drift.compiled import Compiled
from agent.drift.feedback import Label, Labelled, LabelledSink, Recent, Remembered, label_space, resolve_label
from agent.drift.guard import Guard
from agent.drift.refusals import cause_of
from agent.drift.sequences import Sequences
from agent.drift.tally import Tally
from agent.drift.units import PICTURE_UNITS, UNITS
from shared import limits
from shared.bundle.manifest import Manifest
from shared.drift.layout import RowCause
from shared.drift.reference import Image
from shared.errors import InvalidInput, NotFound
from shared.preprocess.kernels import Array
from shared.wire.window import Finding, Window

__all__ = ["Monitor"]

_LOG = logging.getLogger(__name__)
_BUFFER_ROWS = 128
_BUFFER_BYTES = 256 * 1024
_MOST_SPARSE = 1024


class Monitor:
    """The counters of one version. `compiled` None: the bundle has no reference, and only rows are counted.

    monotonic: seconds. wake: asks that `flush` be called soon; None: it is called at once. failed: told once.
    """

    def __init__(
        self,
        manifest: Manifest,
        labels: Sequence[str] | None,
        compiled: Compiled | None,
        digest: str | None,
        *,
        monotonic: Callable[[], float],
        max_rows_per_s: float = 2000.0,
        feedback_count: int = 4096,
        inputs_bytes: int = limits.MIB,
        wake: Callable[[], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.manifest, self.digest = manifest, digest
        self.wake = wake
        self.failed = failed
        self.sink: LabelledSink | None = None
        """Who wants samples whose truth became known."""
        self._shape, self._dtype = tuple(manifest.input.shape), np.dtype(manifest.input.dtype)
        self._labels = labels
        self._compiled = compiled
        self._monotonic = monotonic
        self._max_rows_per_s = max_rows_per_s
        self._lock = threading.Lock()
        self.reference = None if compiled is None else compiled.reference
        self._tally = Tally(self.reference)
        self._told: list[Finding] = []
        self._before = dict.fromkeys(("rows", "skipped", "labelled", "errors"), 0)
        self._sequences: Sequences | None = None
        self._guard: Guard | None = None
        self._recent = Recent(feedback_count, inputs_bytes)
        self._on = True
        self._stride = self._at = 1
        self._filled = self._seen = 0
        self._since_s = monotonic()
        self._capacity = self._soon = 0
        if compiled is not None:
            self._guard = Guard.of(compiled.inputs.features)
            units = PICTURE_UNITS if isinstance(compiled.reference.extraction, Image) else UNITS
            self._sequences = Sequences(compiled.inputs.features, compiled.reference.duplicate_share, units)
            self._make_room(compiled)

    def _make_room(self, compiled: Compiled) -> None:
        extractor = compiled.extractor
        row_bytes = int(np.prod(extractor.shape)) * extractor.dtype.itemsize
        self._capacity = max(1, min(_BUFFER_ROWS, _BUFFER_BYTES // row_bytes))
        self._soon = max(1, self._capacity // 2)
        self._rows = np.empty((self._capacity, *extractor.shape), extractor.dtype)
        self._outputs = np.empty((self._capacity, compiled.output_size), np.float32)
        self._embeddings = np.empty((self._capacity, compiled.embedding_size), np.float32)
        self._kept = extractor.kept

    @property
    def refuses(self) -> bool:
        """Does the contract refuse any rows, so that `check` must be asked?"""
        return self._guard is not None

    def check(self, x: Array) -> None:
        """Before a prediction: error `input.contract` when the contract says that such a row is refused."""
        if self._guard is None or not self._on or x.shape[1:] != self._shape or x.dtype != self._dtype:
            return  # of another shape or type: the model says so
        try:
            self._guard.check(x)
        except InvalidInput:
            raise
        except Exception as error:  # noqa: BLE001 - as in `observe`
            self._give_up(error)

    def observe(self, x: Array, outputs: Array, embedding: Array) -> None:
        """After a prediction: [n, …] inputs, [n, …] outputs, [n, …] embeddings."""
        if not self._on:
            return
        try:
            with self._lock:
                count = len(x)
                self._at -= 1
                if self._at > 0:
                    self._tally.skipped += count
                    self._seen += count
                    return
                self._at = self._stride
                self._put(x, outputs, embedding, count)
                wake = self.wake
                if self._filled == self._capacity:
                    self._count_buffer()
                    return
                if self._filled != self._soon or wake is None:
                    return
            wake()
        except Exception as error:  # noqa: BLE001 - counting must never fail a prediction
            self._give_up(error)

    def _put(self, x: Array, outputs: Array, embedding: Array, count: int) -> None:
        if not self._capacity:
            self._tally.rows += count
            self._tally.predicted += count
            return
        if count == 1:
            at = self._filled
            self._rows[at] = self._kept(x)[0]
            self._outputs[at] = outputs.reshape(-1)
            if self._embeddings.size:
                self._embeddings[at] = embedding.reshape(-1)
            self._filled = at + 1
            return
        self._put_many(self._kept(x), outputs.reshape(count, -1), embedding.reshape(count, -1))

    def _put_many(self, rows: Array, outputs: Array, embeddings: Array) -> None:
        done = 0
        while done < len(rows):
            size = min(self._capacity - self._filled, len(rows) - done)
            here, there = slice(self._filled, self._filled + size), slice(done, done + size)
            self._rows[here], self._outputs[here] = rows[there], outputs[there]
            if self._embeddings.size:
                self._embeddings[here] = embeddings[there]
            self._filled += size
            done += size
            if self._filled == self._capacity:
                self._count_buffer()

    def _count_buffer(self) -> None:
        compiled, count, tally = self._compiled, self._filled, self._tally
        if compiled is None or self._sequences is None or not count:
            return
        features = compiled.extractor.features(self._rows[:count])
        inputs = compiled.input_count
        tally.cells[:inputs] += compiled.input_counts(features).astype(np.uint32)
        answers = compiled.answer_counts(self._outputs[:count], self._embeddings[:count])
        tally.cells[inputs:] += answers.astype(np.uint32)
        if compiled.scores is not None:
            scores = compiled.scores
            tally.scores += scores.count(scores.of(self._outputs[:count])).astype(np.uint32)
        self._sequences.add(features)
        tally.rows += count
        tally.predicted += count
        self._filled = 0
        self._seen += count
        self._choose_stride()

    def _choose_stride(self) -> None:
        """Look at every n-th row so that no more than `max_rows_per_s` are looked at."""
        now_s = self._monotonic()
        passed_s = now_s - self._since_s
        if passed_s < 0.01 and self._seen < _BUFFER_ROWS * 8:
            return
        rate = self._seen / max(passed_s, 1e-3)
        self._stride = min(_MOST_SPARSE, max(1, -int(-rate // self._max_rows_per_s)))
        self._since_s, self._seen = now_s, 0

    def refused(self, x: Array, error: InvalidInput) -> None:
        """A request that was refused before a prediction; what is not finite still counts as rows of the input."""
        if not self._on:
            return
        try:
            with self._lock:
                cause = cause_of(error, x, self.manifest.input)
                self._tally.refused[cause.value] += 1
                if cause is RowCause.NOT_FINITE and self._compiled is not None:
                    with np.errstate(all="ignore"):
                        features = self._compiled.extractor.features(self._compiled.extractor.kept(x))
                    inputs = self._compiled.input_count
                    self._tally.cells[:inputs] += self._compiled.input_counts(features).astype(np.uint32)
                    self._tally.rows += len(x)
        except Exception as problem:  # noqa: BLE001 - as in `observe`
            self._give_up(problem)

    def _give_up(self, error: Exception) -> None:
        self._on = False
        _LOG.error("drift of %s is not counted any more: %r", self.manifest.model, error)
        if self.failed is not None:
            self.failed(error)

    @property
    def is_on(self) -> bool:
        """Is this version still being counted?"""
        return self._on

    def flush(self) -> None:
        """Count what waits in the buffer."""
        if not self._on:
            return
        try:
            with self._lock:
                self._count_buffer()
        except Exception as error:  # noqa: BLE001 - as in `observe`
            self._give_up(error)

    # --- truths -----------------------------------------------------------------------------------------------------
    def remember(self, request_id: str, x: Array, outputs: Array) -> None:
        """Remember an answered request, so that the truth about it can be told later."""
        try:
            rows = outputs.reshape(len(outputs), -1)
            classes = rows.argmax(axis=1).tolist() if self.manifest.task == "classification" else []
            kept = np.array(x) if self.sink is not None else None
            with self._lock:
                self._recent.remember(request_id, Remembered(classes, len(rows), kept))
        except Exception as error:  # noqa: BLE001 - as in `observe`
            self._give_up(error)

    def feedback(
        self, request_id: str, *, labels: Sequence[Label] | None = None, correct: Sequence[bool] | None = None
    ) -> list[bool]:
        """The truth about each row of a request, as classes or as right and wrong; which rows were right.

        Errors `feedback.unknown_request`, `feedback.repeated`, `feedback.label`, `feedback.rows`.
        """
        outputs = int(np.prod(self.manifest.output.shape))
        true = None if labels is None else [resolve_label(label, self._labels, outputs) for label in labels]
        with self._lock:
            entry = self._look_up(request_id, len(true or correct or ()))
            if true is not None and not entry.classes:
                raise InvalidInput("feedback.label", "This version gives numbers; say `correct` instead of a label.")
            entry.answered = True
            right = list(correct or ()) if true is None else [a == b for a, b in zip(true, entry.classes, strict=True)]
            for row, was_right in enumerate(right):
                self._truth(entry, row, None if true is None else true[row], was_right)
            inputs = self._recent.take_input(request_id)
        if true is not None and inputs is not None and self.sink is not None:
            space = label_space(self._labels, outputs)
            for x, label in zip(inputs, true, strict=True):
                if label is not None:
                    self.sink(Labelled(self.manifest.model, self.manifest.version, x, label, space))
        return right

    def _look_up(self, request_id: str, rows: int) -> Remembered:
        try:
            entry = self._recent.answer(request_id)
        except NotFound:
            self._tally.unknown += 1
            raise
        if rows != entry.rows:
            raise InvalidInput("feedback.rows", f"The request had {entry.rows} rows; there is an answer for {rows}.")
        return entry

    def _truth(self, entry: Remembered, row: int, true: int | None, was_right: bool) -> None:
        scores = None if self._compiled is None else self._compiled.scores
        side = self._tally.side
        predicted = actual = max(0, side - 1)
        if side and scores is not None and entry.classes:
            predicted = int(scores.column(np.array(entry.classes[row])))
            if true is not None:
                actual = int(scores.column(np.array(true)))
            elif was_right:
                actual = predicted
        self._tally.truth(predicted, actual, not was_right)

    # --- windows ----------------------------------------------------------------------------------------------------
    def partial(self, empty: Window) -> tuple[Window, bytes]:
        """What was counted so far in this window, and the state of the sequences, for a snapshot."""
        with self._lock:
            self._count_buffer()
            return self._tally.fill(empty, self._findings()), b"" if self._sequences is None else self._sequences.dump()

    def take(self, empty: Window) -> Window | None:
        """End the window: what was counted in it, None when that is nothing; counting begins anew."""
        with self._lock:
            self._count_buffer()
            duplicates = 0 if self._sequences is None else self._sequences.duplicates
            if duplicates:
                self._tally.row_causes[RowCause.DUPLICATE.value] += duplicates
            full = None if self._tally.is_empty else self._tally.fill(empty, self._findings())
            self._before = {name: count + getattr(self._tally, name) for name, count in self._before.items()}
            self._tally, self._told = Tally(self.reference), []
            if self._sequences is not None:
                self._sequences.begin_window()
            return full

    def restore(self, partial: Window, sequences: bytes) -> None:
        """Go on where a snapshot of this version stopped; error `counts.malformed`."""
        with self._lock:
            self._tally.add(partial)
            if self._sequences is not None:
                self._sequences.load(sequences)

    def add(self, window: Window) -> None:
        """Count what another process counted with the same reference; error `counts.malformed`."""
        with self._lock:
            self._tally.add(window)
            self._told += window.findings
            del self._told[: -limits.MAX_DRIFT_FEATURES_COUNT]

    def totals(self) -> dict[str, int]:
        """Some counts since this version began to serve here, for people who look at this device."""
        with self._lock:
            return {name: count + getattr(self._tally, name) for name, count in self._before.items()}

    @property
    def has_counted(self) -> bool:
        """Is there something that a snapshot should keep?"""
        return bool(self._filled) or not self._tally.is_empty

    @property
    def is_full(self) -> bool:
        """Must the window end before its time?"""
        return self._tally.is_full

    def _findings(self) -> list[Finding]:
        """Our own and those that were handed in; of one feature and cause, the rows add up."""
        own = [] if self._sequences is None else self._sequences.findings()
        found: dict[tuple[int, str], Finding] = {}
        for finding in [*own, *self._told]:
            key = finding.feature, finding.cause
            before = found[key].rows if key in found else 0
            found[key] = msgspec.structs.replace(finding, rows=finding.rows + before)
        return list(found.values())
