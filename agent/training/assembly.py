"""The parts of one run's work, made from what the daemon ordered; in the training process, where memory may be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.training.buffer import SampleBuffer
from agent.training.epoch import read_epoch
from agent.training.examples import Embedder
from agent.training.own_head import Bundle, OwnHead
from agent.training.protection import Protection
from agent.training.protocol import Start
from agent.training.residual import Residual
from agent.training.sample_key import load_key
from agent.training.samples import Sample
from agent.training.sdk import load_trainer
from agent.training.work import Work
from shared.bundle.archive import read_manifest
from shared.clock import SystemClock
from shared.runtime.head import TrainableHead
from shared.runtime.model import LoadedModel

__all__ = ["Shelf", "assemble"]

Stamp = tuple[str, int, int, int]


class Shelf:
    """The samples of one model, read again only when the file has changed, and kept by nobody here."""

    def __init__(self, folder: Path, buffer: SampleBuffer, model: str, space: str) -> None:
        self._folder = folder
        self._buffer = buffer
        self._model = model
        self._space = space
        self._stamp: Stamp | None = None

    def __call__(self) -> tuple[str, list[Sample] | None]:
        """The last erasure's name, and what is kept since; None: the same as at the last call. Errors `storage.*`."""
        stamp = self._look()
        if stamp == self._stamp:
            return stamp[0], None
        samples = self._buffer.read(self._model, self._space)
        self._stamp = stamp
        return stamp[0], samples

    def _look(self) -> Stamp:
        epoch = read_epoch(self._folder)
        try:
            found = (self._folder / "samples").stat()
        except FileNotFoundError:
            return epoch, 0, 0, 0
        return epoch, found.st_ino, found.st_size, found.st_mtime_ns


def assemble(
    start: Start, proceed: Callable[[], None], kept: Callable[[], None], protection: Protection | None = None
) -> Work:
    """Ready to work. proceed: raises when the device has no more time for this; kept: a personal head was written.

    Errors `bundle.*`, `model.*`, `array.*`, `training.trainer`, `storage.*`.
    """
    directory, samples, state = Path(start.directory), Path(start.samples), Path(start.state)
    manifest = read_manifest(directory)
    head = TrainableHead(directory, manifest)
    own_weights = head.weights
    buffer = SampleBuffer(samples, start.sample_settings, SystemClock())
    residual = Residual(state, start.run, own_weights.size, load_key(samples / "key"))
    own = None
    if start.personal_samples:
        bundle = Bundle(start.model, start.version, start.bundle_sha256, own_weights)
        own = OwnHead(
            state, bundle, head, min_samples=start.personal_samples, margin=start.personal_margin, changed=kept
        )
    return Work(
        start.run,
        head,
        Embedder(LoadedModel.load(directory, manifest), head.classes),
        load_trainer(start.trainer),
        Shelf(samples, buffer, start.model, start.space),
        residual,
        proceed=proceed,
        own=own,
        protection=protection,
    )
