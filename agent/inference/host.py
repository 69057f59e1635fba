"""The models that serve: load beside, swap in an instant, predict from threads and from the event loop.

Small requests run where they are asked, because handing them to a thread costs more than they do; longer ones run in
one thread per model, with a bounded queue, so that neither the event loop nor another model waits for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.inference.handle import ModelHandle, Retired
from agent.inference.ledger import Answered, Ledger
from agent.inference.statistics import Statistics
from agent.inference.watching import Watcher
from shared import limits
from shared.errors import InternalError, InvalidInput, NotFound, Unavailable
from shared.preprocess.kernels import Array

__all__ = ["INLINE_NS", "ModelHost"]

INLINE_NS = 1_000_000
"""Requests expected to take longer leave the event loop's thread."""


Tap = Callable[[ModelHandle, Array, Array], None]
"""The version that answered, the input and the answer."""


def _nobody() -> None:
    """Nobody wants to know."""


class _Entry:
    """One model name: the version that serves, versions that finish, and the counts of those that are gone."""

    def __init__(self, model: str, handle: ModelHandle) -> None:
        self.handle = handle
        self.waiting = 0
        self._asked: set[asyncio.Future[tuple[Array, ModelHandle]]] = set()
        self._leaving: list[ModelHandle] = []
        self._gone = Statistics()
        self._taken = Statistics()
        self._model = model
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self._model}")
        return self._executor

    async def wait(self, answer: asyncio.Future[tuple[Array, ModelHandle]]) -> tuple[Array, ModelHandle]:
        """The answer from the thread; `model.hung` when that was given up."""
        self.waiting += 1
        self._asked.add(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer in self._asked:
                raise  # it is the caller who went away
            raise Unavailable(
                "model.hung",
                f"A prediction of {self._model} does not end; the agent is getting rid of it.",
                hint="Ask again in some seconds.",
                retriable=True,
            ) from None
        finally:
            self.waiting -= 1
            self._asked.discard(answer)

    def give_up(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        asked, self._asked = self._asked, set()
        for answer in asked:
            answer.cancel()

    def replace(self, handle: ModelHandle) -> None:
        old, self.handle = self.handle, handle
        old.close()
        self._leaving.append(old)

    def total(self) -> Statistics:
        for handle in [handle for handle in self._leaving if handle.freed]:
            self._gone += handle.statistics()
            self._leaving.remove(handle)
        return sum((handle.statistics() for handle in self._leaving), self._gone + self.handle.statistics())

    def take(self) -> Statistics:
        total = self.total()
        out, self._taken = total.after(self._taken), total
        return out

    def close(self) -> None:
        self.handle.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False)


class ModelHost:
    """Models by name. Every method may be called from every thread; `predict_async` from the event loop's."""

    def __init__(self, threads: int = 1, inline_ns: int = INLINE_NS, budget_ns: int = 0) -> None:
        """`budget_ns`: what one prediction may take on this class of device; slower ones are counted (0: none are)."""
        self._threads = threads
        self._budget_ns = budget_ns
        self._ledger = Ledger()
        self.replaced: Callable[[], None] = _nobody
        """Called when a version gave way to another, so that what it did can be told."""
        self.watcher: Watcher | None = None
        """Who counts what versions see; set before the first `load`."""
        self._inline_ns = inline_ns
        self._entries: dict[str, _Entry] = {}
        self._taps: dict[str, Tap] = {}
        self._given_up: list[ModelHandle] = []
        self._lock = threading.Lock()
        self._made_ns = time.perf_counter_ns()

    def load(self, model: str, directory: Path) -> ModelHandle:
        """A version in memory, warmed up, not serving yet; slow, so run it in a thread. Errors as `LoadedModel.load`,
        and `model.wrong_name`."""
        handle = ModelHandle.load(directory, self._threads, self._budget_ns)
        if handle.manifest.model != model:
            handle.close()
            raise InvalidInput("model.wrong_name", f"The bundle holds {handle.manifest.model}, not {model}.")
        if self.watcher is not None:
            handle.monitor = self.watcher.open(directory, handle.manifest, handle.labels)
        return handle

    def swap(self, model: str, loaded: ModelHandle) -> None:
        """Serve `loaded` from now on; predictions under way end on the version before, which is then freed."""
        if loaded.retired:
            raise InternalError("model.retired", f"A version of {model} that was closed cannot serve again.")
        with self._lock:
            entry = self._entries.get(model)
            if entry is not None and entry.handle is loaded:
                return
            self._ledger.follow(model, loaded)
            if entry is None:
                self._entries[model] = _Entry(model, loaded)
            else:
                entry.replace(loaded)
            if self.watcher is not None:
                self.watcher.serve(model, loaded.monitor)
        self.replaced()

    def unload(self, model: str) -> None:
        """Serve nothing for this model; fine if there is none."""
        with self._lock:
            entry = self._entries.pop(model, None)
            if entry is not None:
                entry.close()
                if self.watcher is not None:
                    self.watcher.serve(model, None)
        self.replaced()

    def close(self) -> None:
        """Unload everything."""
        for model in self.models():
            self.unload(model)

    def models(self) -> list[str]:
        """The names that serve, sorted."""
        return sorted(self._entries)

    def current(self, model: str) -> ModelHandle:
        """The version that serves, or `NotFound` (`model.not_served`)."""
        return self._entry(model).handle

    def serving(self, model: str) -> Path | None:
        """The folder of the version that serves; None when there is none."""
        entry = self._entries.get(model)
        return None if entry is None else entry.handle.directory

    def served(self, model: str) -> Statistics:
        """What the version that serves has answered since the swap; zeros when there is none."""
        entry = self._entries.get(model)
        return Statistics() if entry is None else entry.handle.statistics()

    def idle_s(self) -> float:
        """For how long nothing was asked of any model; since the last one was loaded when nothing ever was."""
        last = max((entry.handle.asked_ns for entry in list(self._entries.values())), default=self._made_ns)
        return max(0.0, (time.perf_counter_ns() - last) / 1e9)

    def under_way_s(self, model: str) -> float:
        """For how long the version that serves has been at its present prediction; 0 when it is at none."""
        entry = self._entries.get(model)
        return 0.0 if entry is None else entry.handle.under_way_s()

    def give_up(self, model: str) -> None:
        """Wait no longer for the present prediction, which will not end: those who asked get `model.hung`.

        The next version has a thread of its own. The old thread cannot be ended; `stuck` tells of it. To be called on
        the event loop.
        """
        entry = self._entries.get(model)
        if entry is not None:
            self._given_up.append(entry.handle)
            entry.give_up()

    def stuck(self) -> bool:
        """Whether a prediction that was given up is still running, so that only a new process gets rid of it."""
        return any(handle.under_way_s() for handle in self._given_up)

    def take(self, model: str) -> Statistics:
        """What the model has answered since the last `take`, over all versions; zeros when there is none."""
        with self._lock:
            entry = self._entries.get(model)
            return Statistics() if entry is None else entry.take()

    def answered(self) -> list[Answered]:
        """What each version answered since the last call, those included that serve no more."""
        with self._lock:
            return self._ledger.take()

    def predict(self, model: str, x: Array) -> Array:
        """As `LoadedModel.predict`, by the version that serves; error also `model.not_served`."""
        return self.answer(model, x)[0]

    def answer(self, model: str, x: Array) -> tuple[Array, ModelHandle]:
        """The prediction and the version that made it."""
        while True:
            handle = self._entry(model).handle
            try:
                y = handle.predict(x)
            except Retired:
                continue
            tap = self._taps.get(model)
            if tap is not None:
                tap(handle, x, y)
            return y, handle

    def tap(self, model: str, tap: Tap | None) -> None:
        """Tell `tap` of every prediction that a model has made; it must neither wait nor raise. None: nobody."""
        if tap is None:
            self._taps.pop(model, None)
        else:
            self._taps[model] = tap

    async def answer_async(self, model: str, x: Array) -> tuple[Array, ModelHandle]:
        """`answer` without blocking the event loop for long; error also `model.busy` (retriable)."""
        entry = self._entry(model)
        rows = x.shape[0] if x.ndim else 1
        if entry.handle.row_ns * rows <= self._inline_ns:
            return self.answer(model, x)
        if entry.waiting >= limits.MAX_INFER_WAITING_COUNT:
            raise Unavailable("model.busy", f"{model} has too many requests waiting.", retriable=True)
        try:
            answer = asyncio.get_running_loop().run_in_executor(entry.executor, self.answer, model, x)
        except RuntimeError as error:
            raise NotFound("model.not_served", f"The model {model} was just unloaded.") from error
        return await entry.wait(answer)

    def _entry(self, model: str) -> _Entry:
        entry = self._entries.get(model)
        if entry is None:
            raise NotFound(
                "model.not_served",
                f"No model {model[:48]!r} is served here.",
                hint=f"Served are: {', '.join(self.models()) or 'none yet'}.",
            )
        return entry
