"""The daemon's side of the sample buffer: labelled samples wait here for a moment and go to a short-lived process.

Rules: predictions and feedback never wait for it; memory is bounded, and what does not fit is dropped and counted; what
cannot be kept is dropped, counted and told once; a power cut costs what came within `hold_s`. This module imports
nothing that the daemon should not carry.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from agent.children import run_module
from agent.drift.feedback import Labelled
from agent.training.epoch import read_epoch
from agent.training.samples import MAX_OUTCOME_BYTES, Batch, Kept, Outcome, Sample, decode_outcome
from agent.training.settings import SampleSettings
from shared import limits
from shared.errors import ErrorBody, SkerryError
from shared.wire.up import Event

__all__ = ["SampleIntake"]

_LOG = logging.getLogger(__name__)
_CHILD_S = 60.0
_CLOSE_S = 5.0
_DAY_S = 86400.0
_MOST_AT_ONCE = 4096


class Runner(Protocol):
    """How a child is run (`agent.children.run_module`)."""

    def __call__(
        self, module: str, arguments: list[str], data: bytes, *, timeout_s: float, limit_bytes: int
    ) -> Awaitable[bytes]: ...


class SampleIntake:
    """What waits for the buffer in `folder`. `put` may be called from every thread."""

    def __init__(
        self,
        folder: Path,
        settings: SampleSettings,
        *,
        post: Callable[[Event], None],
        min_free_bytes: int,
        run: Runner = run_module,
    ) -> None:
        self.dropped_count = 0
        """Samples given up since the start."""
        self._folder = folder
        self._settings = settings
        self._post = post
        self._min_free_bytes = min_free_bytes
        self._run = run
        self._lock = threading.Lock()
        self._waiting: list[Sample] = []
        self._bytes = 0
        self._epoch = ""
        self._kept, self._kept_epoch = Kept(), ""
        self._untold = 0
        self._told = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._busy: asyncio.Future[None] | None = None

    def put(self, labelled: Labelled) -> None:
        """Take a sample whose truth became known; never fails and never waits."""
        try:
            self._put(labelled, read_epoch(self._folder))
        except (SkerryError, ValueError) as error:
            _LOG.warning("a sample is not kept: %s", error)
            with self._lock:
                self._drop(1)
            return
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def _put(self, labelled: Labelled, epoch: str) -> None:
        x = np.ascontiguousarray(labelled.x)
        with self._lock:
            if epoch != self._epoch:
                self._waiting, self._bytes, self._epoch = [], 0, epoch
            full = self._bytes + x.nbytes > self._settings.waiting_bytes or len(self._waiting) >= _MOST_AT_ONCE
            if full or not 0 < x.nbytes <= limits.MAX_SAMPLE_BYTES:
                self._drop(1)
                return
            self._waiting.append(
                Sample(
                    model=labelled.model,
                    version=labelled.version,
                    space=labelled.space,
                    label=labelled.label,
                    dtype=x.dtype.name,
                    shape=list(x.shape),
                    data=x.tobytes(),
                )
            )
            self._bytes += x.nbytes

    def _drop(self, count: int) -> None:
        self.dropped_count += count
        self._untold += count

    def samples(self, model: str, space: str) -> dict[int, int]:
        """How many of each class are kept, as of the last look at the buffer, which is at most a day ago."""
        if read_epoch(self._folder) != self._kept_epoch:
            return {}
        found = self._kept.classes
        return {label: count for one, meaning, label, count, _ in found if (one, meaning) == (model, space)}

    def seen(self, model: str, space: str) -> int:
        """How many there were within the retention, those included that were let go; as of the same look."""
        if read_epoch(self._folder) != self._kept_epoch:
            return 0
        return sum(seen for one, meaning, _, _, seen in self._kept.classes if (one, meaning) == (model, space))

    async def run(self) -> None:
        """Until cancelled: hand over what came, and once a day let the old go. Nothing wakes it in between."""
        self._loop = asyncio.get_running_loop()
        if not self._waiting:
            await self._tend()
        while True:
            try:
                async with asyncio.timeout(_DAY_S):
                    if not self._waiting:
                        await self._wake.wait()
            except TimeoutError:
                await self._tend()
                continue
            self._wake.clear()
            if self._waiting:
                await asyncio.sleep(self._settings.hold_s)
                await self._hand_over()

    async def close(self) -> None:
        """Hand over what waits, if that is quick; call it when nothing predicts any more."""
        self._loop = None
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self._busy is not None:
                    await self._busy
                if self._waiting:
                    await self._hand_over()
        except TimeoutError:
            _LOG.warning("%d samples were given up at the end", len(self._waiting))

    async def _tend(self) -> None:
        if (self._folder / "samples").exists():
            await self._hand_over()

    async def _hand_over(self) -> None:
        """What is cancelled is not broken off: the child finishes, and `close` waits for it."""
        self._busy = asyncio.ensure_future(self._keep(self._take()))
        await asyncio.shield(self._busy)
        self._busy = None

    def _take(self) -> Batch:
        with self._lock:
            samples, self._waiting, self._bytes = self._waiting, [], 0
            dropped, self._untold = self._untold, 0
            epoch = self._epoch if samples else read_epoch(self._folder)
        return Batch(
            settings=self._settings,
            epoch=epoch,
            samples=samples,
            dropped=dropped,
            min_free_bytes=self._min_free_bytes,
        )

    async def _keep(self, batch: Batch) -> None:
        outcome = await self._outcome(batch)
        if outcome.error is None:
            self._told = ""
            self._kept, self._kept_epoch = outcome.kept, batch.epoch
            return
        with self._lock:
            self._drop(len(batch.samples))
            self._untold += batch.dropped
        _LOG.warning("%d samples are not kept: %s", len(batch.samples), outcome.error.message)
        if outcome.error.code != self._told:
            self._told = outcome.error.code
            message = f"Samples are not kept: {outcome.error.message}"[:500]
            try:
                self._post(Event(code="samples.not_kept", severity="warning", message=message))
            except SkerryError as error:
                _LOG.error("and it could not be told: %s", error)

    async def _outcome(self, batch: Batch) -> Outcome:
        try:
            data = await self._run(
                "agent.training.keep",
                [str(self._folder)],
                msgspec.msgpack.encode(batch),
                timeout_s=_CHILD_S,
                limit_bytes=MAX_OUTCOME_BYTES,
            )
            return decode_outcome(data)
        except SkerryError as error:
            return Outcome(error=error.body())
        except (OSError, msgspec.DecodeError) as error:
            return Outcome(error=ErrorBody(code="child.failed", message=f"Samples cannot be handed over: {error}."))
