"""The training process's side of the personal head: what a round's training gave, against what is there.

The candidate is the round's weights after this device's own training, so it knows what all devices learnt and what this
one saw. It replaces the head that is kept when it is at least as good on the held-out samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.training.personal import PersonalHead, choose, read_personal, write_personal
from shared.federated.vector import Vector
from shared.preprocess.kernels import Array
from shared.runtime.head import TrainableHead

__all__ = ["Bundle", "OwnHead"]

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Which version the head belongs to, and the weights that the version itself has."""

    model: str
    version: int
    sha256: str
    weights: Vector


class OwnHead:
    """That of one version, kept in `folder`. changed: called after a new one is on the disk."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        head: TrainableHead,
        *,
        min_samples: int,
        margin: float,
        changed: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._bundle = bundle
        self._head = head
        self._min_samples = min_samples
        self._margin = margin
        self._changed = changed

    def consider(self, moved: Vector, run: str, round_no: int, epoch: str, x: Array, y: Labels) -> None:
        """Keep these weights if they are no worse than those that are kept, and choose anew; error `storage.write`."""
        if not len(x):
            return
        bundle = self._bundle
        kept = read_personal(self._folder, bundle.model, bundle.sha256, epoch)
        before = None if kept is None else kept.vector(moved.size)
        own, best = self._accuracy(moved, x, y), moved
        if before is not None and (there := self._accuracy(before, x, y)) > own:
            own, best = there, before
        version = self._accuracy(bundle.weights, x, y)
        serves = choose(
            serves=kept is not None and kept.serves,
            own=own,
            bundle=version,
            held_out=len(x),
            min_samples=self._min_samples,
            margin=self._margin,
        )
        found = PersonalHead(
            model=bundle.model,
            version=bundle.version,
            bundle_sha256=bundle.sha256,
            run=run,
            round_no=round_no,
            accuracy=own,
            bundle_accuracy=version,
            held_out=len(x),
            serves=serves,
            epoch=epoch,
            weights=best.astype("<f4").tobytes(),
        )
        write_personal(self._folder, found)
        self._changed()

    def _accuracy(self, weights: Vector, x: Array, y: Labels) -> float:
        self._head.weights = weights
        return float((self._head.probabilities(x).argmax(axis=1) == y).mean())
