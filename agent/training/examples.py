"""What a device trains on: its samples as embeddings of the extractor, split into what is learnt and what is held out.

Rules: the split is by the digest of the input, so a sample is on the same side in every round and every run, and equal
inputs are never on both; an embedding is computed once in the life of the process. What does not fit the model (another
shape or type, a class that it does not have, a number that is not finite) is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.training.samples import Sample
from shared import limits
from shared.preprocess.kernels import Array
from shared.runtime.model import LoadedModel

__all__ = ["Embedder", "Example", "Examples", "from_samples", "is_held_out"]

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Example:
    """One raw input of the model, without a batch dimension, and its class."""

    x: Array
    label: int


@dataclass(frozen=True, slots=True)
class Examples:
    """Embeddings [n, size] float32, classes [n], and digests of the inputs. skipped: that did not fit the model."""

    x: Array
    y: Labels
    digests: Sequence[bytes]
    skipped: int = 0

    def split(self, held_out: float) -> tuple[tuple[Array, Labels], tuple[Array, Labels]]:
        """What is learnt, and the share `held_out` of it on which only measurements are made."""
        held = np.array([is_held_out(digest, held_out) for digest in self.digests], bool)
        return (self.x[~held], self.y[~held]), (self.x[held], self.y[held])


def is_held_out(digest: bytes, share: float) -> bool:
    """Whether an input with this digest is among the held-out share, 0 to 1. Raising the share only adds to it."""
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def from_samples(samples: Iterable[Sample]) -> list[Example]:
    """The samples as arrays; one that is not what it says is left out."""
    found = []
    for sample in samples:
        try:
            x = np.frombuffer(sample.data, np.dtype(sample.dtype)).reshape(sample.shape)
        except (TypeError, ValueError):
            continue  # counted by whoever compares the lengths
        found.append(Example(x, sample.label))
    return found


class Embedder:
    """Gives examples their embeddings. `model` is used by nobody else."""

    def __init__(self, model: LoadedModel, classes: int) -> None:
        self._model = model
        self._classes = classes
        self._known: dict[bytes, Array] = {}

    def forget(self) -> None:
        """Keep no embedding any more."""
        self._known.clear()

    def embed(self, examples: Sequence[Example]) -> Examples:
        """All that fit the model, in their order. Errors as `LoadedModel.predict`."""
        fit = [example for example in examples if self._fits(example)]
        digests = [hashlib.sha256(np.ascontiguousarray(example.x).tobytes()).digest() for example in fit]
        new = {digest: fit[at].x for at, digest in enumerate(digests) if digest not in self._known}
        kept = set(digests)
        self._known = {digest: row for digest, row in self._known.items() if digest in kept}
        names = list(new)
        for at in range(0, len(names), limits.MAX_INFER_BATCH_COUNT):
            part = names[at : at + limits.MAX_INFER_BATCH_COUNT]
            self._model.predict(np.stack([new[name] for name in part]))
            self._known |= zip(part, np.array(self._model.embedding, np.float32), strict=True)
        rows = [self._known[digest] for digest in digests]
        x = np.stack(rows) if rows else np.zeros((0, self._model.embedding.shape[1]), np.float32)
        y = np.array([example.label for example in fit], np.int64)
        return Examples(x, y, digests, len(examples) - len(fit))

    def _fits(self, example: Example) -> bool:
        wanted = self._model.manifest.input
        x = example.x
        if x.shape != tuple(wanted.shape) or x.dtype != np.dtype(wanted.dtype):
            return False
        return 0 <= example.label < self._classes and (x.dtype.kind != "f" or bool(np.isfinite(x).all()))
