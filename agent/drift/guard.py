"""Rows that the data contract refuses, found before the model runs. Pure; made only when a feature's policy says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.drift.cells import Cells
from shared.drift.layout import Cell
from shared.drift.reference import Feature
from shared.errors import InvalidInput
from shared.preprocess.kernels import Array

__all__ = ["Guard"]

_SAID = {
    Cell.MISSING: "is missing",
    Cell.OUTSIDE: "is outside its range",
    Cell.OTHER: "is not of its kind",
}


class Guard:
    """`check(x)` for [n, columns] raw inputs. NaN and infinity are the model's own affair: it always refuses them."""

    def __init__(self, places: Sequence[int], features: Sequence[Feature]) -> None:
        self._places = list(places)
        self._cells = Cells(features)

    @classmethod
    def of(cls, features: Sequence[Feature]) -> Guard | None:
        """A guard over those features that refuse rows; None when there are none."""
        places = [index for index, feature in enumerate(features) if feature.policy == "reject"]
        return cls(places, [features[index] for index in places]) if places else None

    def check(self, x: Array) -> None:
        """Return if no row breaks the contract; error `input.contract`."""
        values = x.reshape(len(x), -1)[:, self._places].astype(np.float32)
        cells = self._cells.of(values)
        bad = (cells == Cell.OUTSIDE) | (cells == Cell.OTHER) | ((cells == Cell.MISSING) & ~np.isnan(values))
        if bad.any():
            row, place = (int(part) for part in np.argwhere(bad)[0])
            raise _refusal(self._cells.features[place], Cell(int(cells[row, place])), row)


def _refusal(feature: Feature, cell: Cell, row: int) -> InvalidInput:
    wanted = f"It may be from {feature.min} to {feature.max} {feature.unit}".rstrip() + "."
    if cell is Cell.OTHER:
        wanted = "It is an integer." if feature.type == "integer" else "The contract does not know this category."
    return InvalidInput(
        "input.contract",
        f"{feature.name} {_SAID[cell]}.",
        hint="Check where it comes from." if cell is Cell.MISSING else f"Check where it comes from. {wanted}",
        detail={"feature": feature.name, "row": row},
    )
