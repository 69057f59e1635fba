"""The heads of this device's own, as they serve: set into the version that serves between two predictions.

Rules: a head is used only if it is whole, fits the model, belongs to the very bundle that serves and to the samples
since the last erasure; else the bundle's own is used, and what does not belong is removed. A new version always begins
with its own head, and so does the trial of a version, which is another process. Files are looked at when something may
have changed, not by the clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from agent.inference.handle import ModelHandle
from agent.inference.host import ModelHost
from agent.training.epoch import read_epoch
from agent.training.journal import HeadStatus
from agent.training.personal import PersonalHead, drop_personal, read_personal
from agent.training.readings import Installs
from shared.errors import NotFound, SkerryError
from shared.federated.vector import sizes, unflatten
from shared.runtime.head import bundle_weights
from shared.wire.up import Event

__all__ = ["PersonalHeads"]

_LOG = logging.getLogger(__name__)


class PersonalHeads:
    """Those in `folder`. enabled: whether the owner wants any. `look` may run in every thread, one at a time."""

    def __init__(
        self,
        folder: Path,
        samples: Path,
        host: ModelHost,
        installs: Installs,
        report: Callable[[Event], None],
        *,
        enabled: bool,
    ) -> None:
        self._folder = folder
        self._samples = samples
        self._host = host
        self._installs = installs
        self._report = report
        self._enabled = enabled
        self._set: dict[str, tuple[ModelHandle, bytes]] = {}
        self._told: set[str] = set()
        self._known: dict[str, PersonalHead] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Something may have changed; from every thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Until cancelled; does nothing until it is woken."""
        self._loop = asyncio.get_running_loop()
        while True:
            await asyncio.to_thread(self.look)
            await self._wake.wait()
            self._wake.clear()

    def serves(self, model: str) -> bool:
        """Does a head of its own answer for this model?"""
        try:
            return self._host.current(model).personal
        except NotFound:
            return False

    def status(self) -> list[HeadStatus]:
        """What is kept, by model."""
        return [
            HeadStatus(
                model=head.model,
                version=head.version,
                serves=self.serves(head.model),
                accuracy=head.accuracy,
                bundle_accuracy=head.bundle_accuracy,
                held_out=head.held_out,
            )
            for _, head in sorted(self._known.items())
        ]

    def look(self) -> None:
        """Have every model serve with the head that it should; blocks for moments and never fails."""
        for status in self._installs.status():
            try:
                self._look_at(status.model, status.bundle_sha256 or "")
            except (SkerryError, OSError) as error:
                self._tell(status.model, error)

    def _look_at(self, model: str, bundle_sha256: str) -> None:
        try:
            handle = self._host.current(model)
        except NotFound:
            return  # it comes back when a version serves
        if not bundle_sha256 or handle.manifest.head is None:
            return
        head = read_personal(self._folder, model, bundle_sha256, read_epoch(self._samples)) if self._enabled else None
        if head is None or head.version != handle.manifest.version:
            self._known.pop(model, None)
            self._use(model, handle, None)
            drop_personal(self._folder, model)
            return
        self._known[model] = head
        self._use(model, handle, head if head.serves else None)

    def _use(self, model: str, handle: ModelHandle, head: PersonalHead | None) -> None:
        if head is None:
            self._set.pop(model, None)
            if handle.personal:
                handle.use_head(None)
            return
        digest = hashlib.sha256(head.weights).digest()
        if handle.personal and self._set.get(model) == (handle, digest):
            return
        shapes = {name: value.shape for name, value in bundle_weights(handle.directory, handle.manifest).items()}
        vector = head.vector(sum(sizes(shapes)))
        if vector is None:
            drop_personal(self._folder, model)
            return
        handle.use_head(unflatten(vector, shapes))
        self._set[model] = (handle, digest)

    def _tell(self, model: str, error: Exception) -> None:
        _LOG.warning("the head of this device's own for %s is not used: %s", model, error)
        if model not in self._told:
            self._told.add(model)
            message = f"A head of its own cannot serve for {model}: {error}"[:500]
            self._report(Event(code="training.personal", severity="warning", message=message, model=model))
