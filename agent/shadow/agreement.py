"""Whether two versions say the same of one input, and whether they can be compared at all. Pure."""

from __future__ import annotations

import math

import numpy as np

from shared.bundle.manifest import Manifest
from shared.errors import Conflict
from shared.preprocess.kernels import Array

__all__ = ["agree", "check_comparable", "tolerance_of"]


def check_comparable(live: Manifest, candidate: Manifest) -> None:
    """Return if both take the same input and answer the same question, else raise `shadow.incompatible`."""
    asked = (live.task, live.input.dtype, live.input.shape, live.output.shape)
    if asked != (candidate.task, candidate.input.dtype, candidate.input.shape, candidate.output.shape):
        raise Conflict(
            "shadow.incompatible",
            f"Versions {candidate.version} and {live.version} of {live.model} take or give different things.",
            hint="A shadow needs the same task, input and output as the version that serves.",
        )


def tolerance_of(candidate: Manifest, tolerance_ppm: int) -> float:
    """By how much outputs of a regression may differ: as asked for, else as the bundle says of its golden outputs."""
    return tolerance_ppm / 1_000_000 if tolerance_ppm else candidate.golden.tolerance


def agree(task: str, live: Array, candidate: Array, tolerance: float) -> bool:
    """One row of outputs each: the same class (`classification`), or no number that differs by more (`regression`)."""
    if task == "classification":
        return int(np.argmax(live)) == int(np.argmax(candidate))
    difference = float(np.abs(live.astype(np.float64) - candidate.astype(np.float64)).max())
    return math.isfinite(difference) and difference <= tolerance
