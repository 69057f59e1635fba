"""A reference made ready for counting: tables, directions and places, computed once when a version is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from shared import durable, limits
from shared.bundle.manifest import Manifest
from shared.drift.cells import Cells, ScoreCells
from shared.drift.features import Extractor
from shared.drift.layout import CELLS
from shared.drift.projection import directions, project
from shared.drift.reference import Reference, check_fits, parse_reference
from shared.preprocess import parse_pipeline
from shared.preprocess.kernels import Array

__all__ = ["Compiled", "load_reference"]


def load_reference(directory: Path, manifest: Manifest) -> tuple[Reference, str] | None:
    """The reference of an unpacked bundle and its digest; None when it has none. Errors `reference.*`, `storage.*`."""
    if manifest.reference is None:
        return None
    data = durable.read_file(directory / manifest.reference, limit=limits.MAX_REFERENCE_BYTES)
    reference = parse_reference(data)
    check_fits(reference, manifest, parse_pipeline(manifest.preprocessing, manifest.input).digest)
    return reference, hashlib.sha256(data).hexdigest()


class Compiled:
    """How rows and answers of one version are counted."""

    def __init__(self, reference: Reference, manifest: Manifest) -> None:
        self.reference = reference
        self.extractor = Extractor(reference.extraction, manifest.input)
        self.inputs = Cells(reference.of("input"))
        self.outputs = Cells(reference.of("output"))
        self.embedding = Cells(reference.of("embedding"))
        self.scores = None if reference.classes is None else ScoreCells(reference.classes)
        self._along = None if reference.projection is None else directions(reference.projection)
        self.embedding_size = 0 if reference.projection is None else reference.projection.inputs
        self.output_size = int(np.prod(manifest.output.shape))
        self.input_count = len(self.inputs.features)

    def input_counts(self, features: Array) -> Array:
        """[F, CELLS] of [n, F] features of the input."""
        return self.inputs.count(self.inputs.of(features))

    def answer_counts(self, outputs: Array, embeddings: Array) -> Array:
        """[F, CELLS] of the features that follow a prediction: outputs [n, outputs], embeddings [n, size]."""
        parts = []
        if self.outputs.features:
            parts.append(self.outputs.count(self.outputs.of(outputs)))
        if self._along is not None:
            parts.append(self.embedding.count(self.embedding.of(project(embeddings, self._along))))
        return np.concatenate(parts) if parts else np.zeros((0, CELLS), np.int64)
