"""One candidate beside one live version: a share of the predictions is handed to a thread of its own, one at a time.

Rules: a prediction that was made is never waited for, delayed or failed by this: it is offered after the answer is
there, and what finds the candidate busy, or its processor time used up, is counted and dropped. The processor time is
that of the candidate's process and of this thread, as measured.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.inference.handle import ModelHandle
from agent.shadow.agreement import agree
from agent.shadow.budget import CpuBudget
from agent.shadow.candidate import Candidate
from agent.shadow.counts import ShadowCounts
from shared.errors import InternalError, SkerryError
from shared.preprocess.kernels import Array

__all__ = ["Plan", "Trial"]

_LOG = logging.getLogger(__name__)
_FAULTS = frozenset({"shadow.crashed", "shadow.hung"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is tried: of the predictions (0 to 1), of one core (hundredths of a percent); what counts as equal."""

    share: float
    cpu_bp: int
    task: str
    tolerance: float


class Trial:
    """Runs until `stop`, or until the candidate fails: then `failed` is called with why, in the trial's thread."""

    def __init__(
        self,
        live: ModelHandle,
        plan: Plan,
        counts: ShadowCounts,
        start: Callable[[], Candidate],
        load: Callable[[Candidate], None],
        failed: Callable[[SkerryError], None],
        *,
        random: Callable[[], float],
    ) -> None:
        self._live = live
        self._plan = plan
        self._counts = counts
        self._start = start
        self._load = load
        self._failed = failed
        self._random = random
        self._budget = CpuBudget(plan.cpu_bp, time.monotonic())
        self._lock = threading.Lock()
        self._queue: queue.Queue[tuple[Array, Array] | None] = queue.Queue(1)
        self._candidate: Candidate | None = None
        self._ready = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, handle: ModelHandle, x: Array, y: Array) -> None:
        """A live prediction was made; never raises and never waits."""
        if not self._ready or handle is not self._live or self._random() >= self._plan.share:
            return
        try:
            with self._lock:
                allowed = self._budget.allows(time.monotonic())
            if allowed and self._queue.empty():
                self._queue.put_nowait((x[:1].copy(), y[:1].copy()))
                return
        except queue.Full:
            pass  # Another prediction was faster.
        except Exception:  # noqa: BLE001 - whatever it was, the prediction was made
            _LOG.exception("a prediction could not be offered to the candidate")
        self._counts.skipped()

    def stop(self) -> None:
        """End thread and process; blocks for moments."""
        with self._lock:
            self._stopping = True
            candidate = self._candidate
        self._ready = False
        if candidate is not None:
            candidate.kill()
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.05)
            except queue.Full:
                continue
            self._thread.join(0.05)

    def _run(self) -> None:
        try:
            with self._start() as candidate:
                with self._lock:
                    if self._stopping:
                        return
                    self._candidate = candidate
                self._load(candidate)
                self._ready = True
                while (item := self._queue.get()) is not None:
                    self._compare(candidate, *item)
        except SkerryError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread
            _LOG.exception("the trial of a candidate failed in an unforeseen way")
            self._end(InternalError("shadow.failed", f"{type(error).__name__}: {error}"[:300]))

    def _compare(self, candidate: Candidate, x: Array, live: Array) -> None:
        began_ns = time.thread_time_ns()
        reply = candidate.ask(x)
        if reply.output is None:
            self._counts.failed()
        else:
            same = np.isfinite(reply.output).all() and agree(
                self._plan.task, live[0], reply.output[0], self._plan.tolerance
            )
            self._counts.compared(reply.took_ns, agreed=bool(same))
        used_ns = reply.cpu_ns + time.thread_time_ns() - began_ns
        with self._lock:
            self._budget.spend(used_ns / 1e9)

    def _end(self, error: SkerryError) -> None:
        self._ready = False
        if self._stopping:
            return  # It was ended from here, so its end is no fault.
        self._counts.stopped(error.code, crashed=error.code in _FAULTS)
        self._failed(error)
