"""Changes of unit that happen in practice, and which of them explains a window's mean and deviation. Pure.

A change of unit moves mean and deviation together: y = a x + b gives mean a m + b and deviation |a| s. It is named only
if both fit as well as so many rows can say, and the unchanged unit does not; a mean near zero says little, so there the
factor must be a large one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["PICTURE_UNITS", "UNITS", "changed_unit"]

_FACTORS = {
    "10": 10.0,
    "100": 100.0,
    "1000": 1e3,
    "1e6": 1e6,
    "60": 60.0,
    "3600": 3600.0,
    "3.6": 3.6,
    "1.609": 1.609344,
    "2.205": 2.2046226,
    "2.54": 2.54,
    "3.281": 3.2808399,
    "6.895": 6.8947573,
    "25.4": 25.4,
    "57.3": 57.2957795,
    "255": 255.0,
}
UNITS: Sequence[tuple[str, float, float]] = (
    *((f"*{name}", factor, 0.0) for name, factor in _FACTORS.items()),
    *((f"/{name}", 1.0 / factor, 0.0) for name, factor in _FACTORS.items()),
    ("*1.8+32", 1.8, 32.0),
    ("(-32)/1.8", 1 / 1.8, -32 / 1.8),
    ("+273.15", 1.0, 273.15),
    ("-273.15", 1.0, -273.15),
)
"""(name, factor, offset)."""
PICTURE_UNITS = [unit for unit in UNITS if unit[0] in ("*255", "/255")]
"""Brightness and what is made of it has no unit that changes, but for the scale of the pixels: a blurred picture, whose
sharpness is less than half, is not one in inches."""
_LEAST_ROWS = 30
_MEAN_FIT, _SPREAD_FIT = 0.15, 0.2
_CHANCE = 2.0
_LARGE = math.log(5.0)


def changed_unit(
    *,
    rows: int,
    mean: float,
    std: float,
    old_mean: float,
    old_std: float,
    units: Sequence[tuple[str, float, float]] = UNITS,
) -> str:
    """The name of the change that explains the new mean and deviation; empty when none is needed or none does."""
    if rows < _LEAST_ROWS or not old_std > 0 or not std > 0:
        return ""
    chance = _CHANCE / math.sqrt(rows)
    mean_fit, spread_fit = _MEAN_FIT + chance, _SPREAD_FIT + chance
    if abs(mean - old_mean) < old_std and abs(math.log(std / old_std)) < spread_fit:
        return ""
    centred = abs(old_mean) < old_std / 2
    best, found = math.inf, ""
    for name, factor, offset in units:
        spread = abs(math.log(std / (factor * old_std)))
        off = abs(mean - (factor * old_mean + offset)) / (factor * old_std)
        size = abs(math.log(factor))
        if not offset and (size < 4 * chance or (centred and size < _LARGE)):
            continue  # so few rows, or such rows, cannot tell so small a factor from chance
        if spread < spread_fit and off < mean_fit:
            score = (spread / spread_fit) ** 2 + (off / mean_fit) ** 2
            best, found = min((best, found), (score, name))
    return found
