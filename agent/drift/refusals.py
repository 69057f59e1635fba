"""Why a request was refused before it was predicted, in the words that windows count. Pure."""

from __future__ import annotations

from shared.bundle.manifest import TensorSpec
from shared.drift.layout import RowCause
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["cause_of"]

_CAUSES = {
    "input.not_finite": RowCause.NOT_FINITE,
    "input.dtype": RowCause.DTYPE,
    "input.contract": RowCause.CONTRACT,
}


def cause_of(error: InvalidInput, x: Array, wanted: TensorSpec) -> RowCause:
    """The cause that an error of the model stands for; a row that is too narrow misses a column."""
    if error.code == "input.shape":
        narrow = x.ndim == len(wanted.shape) + 1 and 0 < x.shape[-1] < wanted.shape[-1]
        return RowCause.MISSING_COLUMN if narrow else RowCause.SHAPE
    return _CAUSES.get(error.code, RowCause.OTHER)
