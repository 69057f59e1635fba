"""Random projections of an embedding: a few numbers that move when it moves.

The directions are signs only, taken from SHAKE-256 over the seed, so every platform and every version of NumPy makes
the same ones for ever. Each is scaled to length 1 (Achlioptas 2003, "Database-friendly random projections").
"""

from __future__ import annotations

import hashlib

import numpy as np

from shared.drift.reference import Projection
from shared.preprocess.kernels import Array

__all__ = ["directions", "project"]


def directions(projection: Projection) -> Array:
    """[inputs, outputs] float32, for `project`."""
    bits = projection.inputs * projection.outputs
    stream = hashlib.shake_256(b"skerry projection %d" % projection.seed).digest((bits + 7) // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8), count=bits).astype(np.float32) * 2 - 1
    found: Array = signs.reshape(projection.outputs, projection.inputs).T / np.float32(np.sqrt(projection.inputs))
    return np.ascontiguousarray(found)


def project(embeddings: Array, along: Array) -> Array:
    """[n, inputs] to [n, outputs]; row by row, so that a row gives the same numbers in whatever batch it comes."""
    found: Array = np.matmul(embeddings[:, np.newaxis, :], along)[:, 0, :]
    return found
