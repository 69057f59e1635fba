"""The windows of all models: opened when a version serves, kept through power cuts, ended in time, then told.

Rules: writes to the disk are bounded (one at the end of a window, else one every `snapshot_s`, and none while nothing
is counted); ids only grow; nothing here can end a prediction or the agent: what fails is logged, told and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from agent.drift.compiled import Compiled, load_reference
from agent.drift.feedback import LabelledSink
from agent.drift.metrics import NamedMetrics
from agent.drift.monitor import Monitor
from agent.drift.private import privatise, system_geometric
from agent.drift.settings import DriftSettings
from agent.drift.snapshot import MAX_PENDING_COUNT, Snapshot, load_snapshot, new_snapshot, save_snapshot
from shared import durable, ids, limits
from shared.bundle.manifest import Manifest
from shared.clock import Clock
from shared.drift.privacy import Geometric
from shared.drift.reference import Reference
from shared.errors import InvalidInput, SkerryError
from shared.wire.up import Event
from shared.wire.window import Window

__all__ = ["DriftKeeper"]

_LOG = logging.getLogger(__name__)
_CLOSE_S = 5.0
Put = Callable[[msgspec.Struct], Awaitable[object]]


class _Book:
    """One model: the version that is counted, those that just left, and what is on the disk."""

    def __init__(self, path: Path, snapshot: Snapshot, started_s: float, ends_s: float) -> None:
        self.path = path
        self.series = snapshot.series
        self.next_id = snapshot.next_id
        self.pending = list(snapshot.pending)
        self.monitor: Monitor | None = None
        self.leaving: list[Monitor] = []
        self.started_s = started_s
        self.ends_s = ends_s
        self.saved_s = ends_s
        self.lock = asyncio.Lock()

    def empty(self, monitor: Monitor, now_s: float) -> Window:
        """The window under way without its counts."""
        manifest, started_s = monitor.manifest, max(0.0, self.started_s)
        return Window(
            model=manifest.model,
            version=manifest.version,
            series=self.series,
            window_id=self.next_id,
            started_s=started_s,
            ended_s=max(started_s, now_s),
            reference_sha256=monitor.digest,
        )

    def snapshot(self, now_s: float) -> Snapshot:
        """What the file should say."""
        partial, sequences = None, b""
        if self.monitor is not None:
            partial, sequences = self.monitor.partial(self.empty(self.monitor, now_s))
        return Snapshot(
            series=self.series, next_id=self.next_id, partial=partial, sequences=sequences, pending=self.pending
        )

    def finish(self, window: Window) -> None:
        """A window is finished: its id is used up, and the next begins."""
        self.pending = [*self.pending, window][-MAX_PENDING_COUNT:]
        self.next_id = window.window_id + 1
        self.started_s = window.ended_s


class DriftKeeper:
    """The monitors of the models that serve. `open`, `serve` and `leave` may be called from every thread."""

    def __init__(
        self,
        folder: Path,
        settings: DriftSettings,
        *,
        put: Put,
        post: Callable[[Event], None],
        clock: Clock,
        random: Callable[[], float],
        geometric: Geometric = system_geometric,
    ) -> None:
        self.metrics = NamedMetrics()
        self.sink: LabelledSink | None = None
        """Who wants samples whose truth became known; asked for by versions with a head, loaded from then on."""
        self.inputs_bytes = limits.MIB
        """Of the inputs that a version remembers for it."""
        self._folder = folder
        self._settings = settings
        self._put = put
        self._post = post
        self._clock = clock
        self._random = random
        self._geometric = geometric
        self._books: dict[str, _Book] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._metrics_s = clock.monotonic() + settings.metrics_interval_s

    # --- called by the host of the models ----------------------------------------------------------------------------
    def open(self, directory: Path, manifest: Manifest, labels: list[str] | None) -> Monitor | None:
        """A monitor for a version that was loaded; None when nothing is to be counted. Never fails."""
        if not self._settings.enabled:
            return None
        compiled, digest = None, None
        try:
            found = load_reference(directory, manifest)
            if found is not None:
                compiled, digest = Compiled(found[0], manifest), found[1]
        except SkerryError as error:
            self._tell("drift.reference_unreadable", f"{manifest.model} {manifest.version}: {error.message}", manifest)
        monitor = Monitor(
            manifest,
            labels,
            compiled,
            digest,
            monotonic=self._clock.monotonic,
            max_rows_per_s=self._settings.max_rows_per_s,
            feedback_count=self._settings.feedback_count,
            inputs_bytes=self.inputs_bytes,
            failed=lambda error: self._tell(
                "drift.monitor_failed", f"Drift is not counted any more: {error!r}", manifest
            ),
        )
        monitor.sink = self.sink if manifest.head is not None and manifest.task == "classification" else None
        return monitor

    def serve(self, model: str, monitor: Monitor | None) -> None:
        """This monitor's version serves from now on (None: no version does); what the one before counted is told."""
        book = self._books.get(model)
        if book is None:
            if monitor is None:
                return
            book = self._books[model] = self._open_book(model, monitor)
        elif book.monitor is not monitor and book.monitor is not None:
            book.leaving.append(book.monitor)
        book.monitor = monitor
        if monitor is not None:
            monitor.wake = lambda: self._soon(monitor)
        self._wake_up()

    def _soon(self, monitor: Monitor) -> None:
        if self._loop is None:
            monitor.flush()
        else:
            try:
                self._loop.call_soon_threadsafe(monitor.flush)
            except RuntimeError:  # the loop has ended; the buffer counts itself when it is full
                self._loop = None

    def _wake_up(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _open_book(self, model: str, monitor: Monitor) -> _Book:
        path = self._folder / f"{ids.parse_model_name(model)}.state"
        snapshot = self._load(path, monitor.manifest)
        now_s, at_s = self._clock.now(), self._clock.monotonic()
        book = _Book(path, snapshot, now_s, at_s + self._settings.window_s * (0.5 + 0.5 * self._random()))
        book.saved_s = at_s
        partial = snapshot.partial
        if partial is None:
            return book
        same = (partial.version, partial.reference_sha256) == (monitor.manifest.version, monitor.digest)
        try:
            if same:
                monitor.restore(partial, snapshot.sequences)
                book.started_s = partial.started_s
            elif (partial.rows or partial.refused or partial.feedback.labelled) and not self._settings.epsilon:
                book.finish(partial)  # with noise it stays untold: how much it needs, only its own reference says
        except InvalidInput as error:
            _LOG.error("the counts of %s in the snapshot do not fit: %s", model, error)
        return book

    def _load(self, path: Path, manifest: Manifest) -> Snapshot:
        try:
            return load_snapshot(path) or new_snapshot()
        except SkerryError as error:
            self._tell("drift.snapshot_damaged", f"Counts were lost and a new series begins: {error.message}", manifest)
            return new_snapshot()

    def _tell(self, code: str, message: str, manifest: Manifest) -> None:
        _LOG.error("%s: %s", code, message)
        try:
            self._post(Event(code=code, severity="warning", message=message[:500], model=manifest.model))
        except SkerryError as error:
            _LOG.error("and it could not be told: %s", error)

    # --- the loop ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled; nothing wakes it while no window is due."""
        self._loop = asyncio.get_running_loop()
        durable.make_dir(self._folder)
        while True:
            await self.tick()
            try:
                async with asyncio.timeout(max(0.05, self._due_s() - self._clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _due_s(self) -> float:
        due = [self._metrics_s]
        for book in self._books.values():
            due += [book.ends_s, book.saved_s + self._settings.snapshot_s]
        return min(due)

    async def tick(self) -> None:
        """Do what is due now."""
        now_s = self._clock.monotonic()
        for model, book in list(self._books.items()):
            async with book.lock:
                try:
                    await self._tend(book, now_s)
                except SkerryError as error:
                    _LOG.error("the window of %s could not be kept or told: %s", model, error)
        if now_s >= self._metrics_s:
            self._metrics_s = now_s + self._settings.metrics_interval_s
            await self._tell_metrics()

    async def _tend(self, book: _Book, now_s: float) -> None:
        monitor, settings = book.monitor, self._settings
        leaving, book.leaving = book.leaving, []
        finished = [self._finish(book, left) for left in leaving]
        if monitor is not None and (now_s >= book.ends_s or monitor.is_full):
            finished.append(self._finish(book, monitor))
        if now_s >= book.ends_s:
            book.ends_s = now_s + settings.window_s
        due = now_s >= book.saved_s + settings.snapshot_s
        if due:
            book.saved_s = now_s
        if any(finished) or (due and monitor is not None and monitor.has_counted):
            book.saved_s = now_s
            await asyncio.to_thread(save_snapshot, book.path, book.snapshot(self._clock.now()))
        await self._deliver(book)

    def _finish(self, book: _Book, monitor: Monitor) -> bool:
        window = monitor.take(book.empty(monitor, self._clock.now()))
        if window is None:
            book.started_s = self._clock.now()
            return False
        book.finish(self._private(window, monitor.reference))
        return True

    def _private(self, window: Window, reference: Reference | None) -> Window:
        epsilon = self._settings.epsilon
        return privatise(window, reference, epsilon, self._geometric) if epsilon else window

    async def _deliver(self, book: _Book) -> None:
        while book.pending:
            await self._put(book.pending[0])
            del book.pending[0]

    async def _tell_metrics(self) -> None:
        message = self.metrics.take(self._clock.now())
        if message is not None:
            try:
                await self._put(message)
            except SkerryError as error:
                _LOG.error("metrics were lost: %s", error)

    async def close(self) -> None:
        """Keep what was counted; call it when nothing predicts any more, and before the outbox is closed."""
        self._loop = None
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._tell_metrics()
        except TimeoutError:
            _LOG.error("metrics were lost: the outbox does not take them")
        for model, book in self._books.items():
            async with book.lock:
                try:
                    for left in book.leaving:
                        self._finish(book, left)
                    book.leaving.clear()
                    durable.make_dir(self._folder)
                    await asyncio.to_thread(save_snapshot, book.path, book.snapshot(self._clock.now()))
                except SkerryError as error:
                    _LOG.error("the counts of %s could not be kept: %s", model, error)

    def monitors(self) -> dict[str, Monitor]:
        """The monitors of the versions that serve."""
        return {model: book.monitor for model, book in self._books.items() if book.monitor is not None}
