"""One version in memory: predictions one at a time, counted, and freed when it is retired and idle.

Rules: the runtime is not thread-safe, so every prediction holds the lock; a version that is retired while it predicts
finishes that prediction, and whoever leaves last frees it; asked after that, it raises `Retired` and the host asks the
version that took its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agent.drift.monitor import Monitor
from agent.inference.statistics import Counters, Statistics
from shared.bundle.archive import read_manifest
from shared.bundle.manifest import Manifest
from shared.errors import InvalidInput, NotFound
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel

__all__ = ["ModelHandle", "Retired"]

_WARM_UP_COUNT = 5
_WARM_UP_NS = 200_000_000


class Retired(Exception):  # not an error: the caller goes to the successor
    """The version no longer serves."""


class ModelHandle:
    """A loaded version. `row_ns` is the measured time of one row; `manifest` and `labels` are for reading."""

    def __init__(self, directory: Path, model: LoadedModel, budget_ns: int = 0) -> None:
        self.directory = directory
        self.manifest: Manifest = model.manifest
        self.labels = model.labels
        self.row_ns = _measure(model)
        self._model = model
        self._lock = threading.Lock()
        self._counters = Counters(budget_ns)
        self.monitor: Monitor | None = None
        """Counts what is asked and answered."""
        self._began_ns = 0
        self.asked_ns = time.perf_counter_ns()
        """When the last prediction began, or this was loaded (as of `time.perf_counter_ns`)."""
        self.personal = False
        """Does it predict with a head of this device's own?"""
        self._retired = False
        self._freed = False

    @classmethod
    def load(cls, directory: Path, threads: int = 1, budget_ns: int = 0) -> ModelHandle:
        """Load the bundle unpacked in `directory` and run it a few times; errors as `LoadedModel.load`."""
        return cls(directory, LoadedModel.load(directory, read_manifest(directory), threads), budget_ns)

    def predict(self, x: Array) -> Array:
        """As `LoadedModel.predict`, counted; raises `Retired` once it was freed."""
        counters, monitor, model = self._counters, self.monitor, self._model
        try:
            with self._lock:
                if self._freed:
                    raise Retired
                start = self._began_ns = self.asked_ns = time.perf_counter_ns()
                try:
                    if monitor is not None and monitor.refuses:
                        monitor.check(x)
                    y = model.predict(x)
                except InvalidInput as error:
                    counters.rejected += 1
                    if monitor is not None:
                        monitor.refused(x, error)
                    raise
                except Exception:
                    counters.failed()
                    raise
                finally:
                    self._began_ns = 0
                counters.answered(time.perf_counter_ns() - start)
                if monitor is not None:
                    monitor.observe(x, y, model.embedding)
                return y
        finally:
            if self._retired:
                self._free()

    def use_head(self, weights: Mapping[str, Array] | None) -> None:
        """Predict with these weights of the head, between two predictions; None: with the bundle's own.

        Errors as `LoadedModel.use_head`; `model.retired` when it serves no more.
        """
        with self._lock:
            if self._freed:
                raise NotFound("model.retired", f"This version of {self.manifest.model} serves no more.")
            self.personal = False
            self._model.use_head(weights)
            self.personal = weights is not None

    def under_way_s(self) -> float:
        """For how long the present prediction has been running; 0 when there is none."""
        began_ns = self._began_ns
        return (time.perf_counter_ns() - began_ns) / 1e9 if began_ns else 0.0

    def statistics(self) -> Statistics:
        """The counts so far."""
        return self._counters.snapshot()

    def close(self) -> None:
        """Retire: free the memory now, or when the prediction under way ends."""
        self._retired = True
        self._free()

    @property
    def retired(self) -> bool:
        """Was it closed, so that it may not serve again?"""
        return self._retired

    @property
    def freed(self) -> bool:
        """Is the memory given back?"""
        return self._freed

    def _free(self) -> None:
        # Whoever retires sets the flag first and whoever predicts looks at it after letting go of the lock, so one of
        # the two finds the lock free and the version retired.
        if self._lock.acquire(blocking=False):
            try:
                if not self._freed:
                    self._freed = True
                    self._model.close()
            finally:
                self._lock.release()


def _measure(model: LoadedModel) -> int:
    sample = np.ascontiguousarray(model.golden()[0][:1])
    model.predict(sample)
    times: list[int] = []
    while len(times) < _WARM_UP_COUNT and sum(times) < _WARM_UP_NS:
        start = time.perf_counter_ns()
        model.predict(sample)
        times.append(time.perf_counter_ns() - start)
    return sorted(times)[len(times) // 2]
