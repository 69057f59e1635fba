"""The cells that values fall into, the same for every feature and on both sides of the wire.

Every feature has 24 cells: 20 bins (or known categories), then what is missing (NaN, or the value that the contract
says stands for nothing), infinite, outside the contract's range, and other (a category that the reference does not
know, or a fraction where the contract says integer). So 32 features are 768 counts, 3 kB as uint32. A version that is
a classifier also has 20 score bins (its highest score) times the predicted class.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

__all__ = ["BINS", "CELLS", "SCORE_BINS", "Cause", "Cell", "RowCause"]

BINS = 20
CELLS = 24
SCORE_BINS = 20


class Cell(IntEnum):
    """The cells behind the bins."""

    MISSING = 20
    INFINITE = 21
    OUTSIDE = 22
    OTHER = 23


class Cause(StrEnum):
    """What is wrong with one feature. The first five are cells; the others need more than one row to be seen."""

    MISSING = "missing"
    INFINITE = "infinite"
    OUTSIDE = "outside"
    NEW_CATEGORY = "new_category"
    WRONG_TYPE = "wrong_type"
    STUCK = "stuck"
    CONSTANT = "constant"
    CLIPPED = "clipped"
    UNIT = "unit"


class RowCause(StrEnum):
    """What is wrong with a whole row, or with a request that was refused before it was a row."""

    DUPLICATE = "duplicate"
    MISSING_COLUMN = "missing_column"
    SHAPE = "shape"
    DTYPE = "dtype"
    NOT_FINITE = "not_finite"
    CONTRACT = "contract"
    OTHER = "other"
