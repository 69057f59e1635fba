"""What one window of one group says: faults of the data first, then performance, then drift. Pure.

Rules (each from measurements, see docs/monitoring.md):
- A feature has drifted if its test is a discovery among all features, its effect is large enough, and both were so in
  the window before. One of the three alone is noise, or not worth anybody's night.
- Data quality comes first and vetoes: what is missing or broken is named by its cause, and the drift that follows from
  it is not told a second time. Missing and infinite values are left out of the drift test for the same reason.
- The severity ladder: data quality, then estimated performance, then drift of predictions, then drift of inputs, which
  is information only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from hub.monitoring.discovery import discoveries
from hub.monitoring.divergence import compare, wasserstein
from shared.drift.layout import BINS, Cause, Cell
from shared.drift.reference import Reference

__all__ = [
    "Counted",
    "Drifted",
    "Examination",
    "Fault",
    "Severity",
    "Thresholds",
    "examine",
    "reference_cells",
    "shifts_of",
]

Counts = NDArray[np.int64]
_HOUR_S, _DAY_S = 3600.0, 86_400.0
_CELL_CAUSES = {Cell.INFINITE: Cause.INFINITE, Cell.MISSING: Cause.MISSING, Cell.OUTSIDE: Cause.OUTSIDE}
_ORDER = (
    Cause.CONSTANT,
    Cause.STUCK,
    Cause.UNIT,
    Cause.CLIPPED,
    Cause.INFINITE,
    Cause.MISSING,
    Cause.NEW_CATEGORY,
    Cause.OUTSIDE,
)


class Severity(IntEnum):
    """How bad it is; only the first two may act by themselves."""

    NONE = 0
    INPUT_DRIFT = 1
    PREDICTION_DRIFT = 2
    PERFORMANCE = 3
    DATA_QUALITY = 4


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """false_discoveries: rate. min_effect: Jensen-Shannon distance. min_rows: fewer rows say nothing. fault_share: the
    share of rows from which a fault is told. chance: how unlikely a share of missing values must be."""

    false_discoveries: float = 0.05
    min_effect: float = 0.02
    min_rows: int = 50
    fault_share: float = 0.01
    chance: float = 1e-4


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The summed counts of a group's windows. cells: [features, 24]. findings: rows by (feature, cause)."""

    rows: int
    predicted: int
    cells: Counts
    findings: Mapping[tuple[int, Cause], int] = {}
    duplicates: int = 0


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """One feature against its reference. shift: distance moved, in standard deviations of the reference, with sign.

    found: significant and large in this window. confirmed: in the one before as well.
    """

    feature: str
    source: str
    n: int
    p: float
    js: float
    psi: float
    shift: float
    found: bool
    confirmed: bool


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of the data. feature "" is about whole rows."""

    feature: str
    cause: str
    rows: int
    share: float


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `found` by feature: what the next window needs to know of this one."""

    severity: Severity
    faults: tuple[Fault, ...]
    drifted: tuple[Drifted, ...]
    found: tuple[bool, ...]


def reference_cells(reference: Reference, started_s: float, ended_s: float) -> Counts:
    """The reference's counts [features, 24] for a window: of its hour, of its weekday, or of all the time."""
    length = ended_s - started_s
    middle = (started_s + ended_s) / 2.0
    periods = {"hour": int(middle // _HOUR_S) % 24, "weekday": (int(middle // _DAY_S) + 3) % 7}
    wanted = "hour" if length <= 2 * _HOUR_S else "weekday" if length <= 2 * _DAY_S else ""
    for season in reference.seasons:
        if season.by == wanted:
            counts = np.array(season.counts[periods[wanted]], np.int64).reshape(len(reference.features), -1)
            if counts.sum(axis=1).min() > 0:
                return counts
    return np.array([feature.counts for feature in reference.features], np.int64)


def examine(
    counted: Counted,
    reference: Reference,
    cells: Counts,
    before: tuple[bool, ...] = (),
    thresholds: Thresholds | None = None,
) -> Examination:
    """Judge `counted` against `cells` (of `reference_cells`); `before`: `found` of the window before this one."""
    limits = thresholds or Thresholds()
    faults = _faults(counted, reference, cells, limits)
    drifted = _drifted(counted, reference, cells, before, limits)
    broken = {fault.feature for fault in faults}
    confirmed = [d for d in drifted if d.confirmed and d.feature not in broken]
    if faults:
        severity = Severity.DATA_QUALITY
    elif any(d.source == "output" for d in confirmed):
        severity = Severity.PREDICTION_DRIFT
    else:
        severity = Severity.INPUT_DRIFT if confirmed else Severity.NONE
    return Examination(severity=severity, faults=faults, drifted=drifted, found=tuple(drift.found for drift in drifted))


def _drifted(
    counted: Counted, reference: Reference, cells: Counts, before: tuple[bool, ...], limits: Thresholds
) -> tuple[Drifted, ...]:
    kept = [*range(BINS), int(Cell.OUTSIDE), int(Cell.OTHER)]
    seen = np.maximum(counted.cells[:, kept], 0)
    result = compare(cells[:, kept], seen)
    enough = result.n >= limits.min_rows
    found = discoveries(np.where(enough, result.p, 1.0), limits.false_discoveries)
    found &= enough & (result.js >= limits.min_effect)
    earlier = np.array(before if len(before) == len(found) else [False] * len(found), bool)
    shifts = shifts_of(reference, cells, counted.cells)
    return tuple(
        Drifted(
            feature=feature.name,
            source=feature.source,
            n=int(result.n[i]),
            p=float(result.p[i]),
            js=float(result.js[i]),
            psi=float(result.psi[i]),
            shift=float(shifts[i]),
            found=bool(found[i]),
            confirmed=bool(found[i] and earlier[i]),
        )
        for i, feature in enumerate(reference.features)
    )


def shifts_of(reference: Reference, cells: Counts, seen: Counts) -> NDArray[np.float64]:
    """How far each feature moved, in standard deviations of the reference, with sign."""
    centres = np.array([_centres(f.edges, f.least, f.greatest) for f in reference.features])
    scale = np.array([feature.std for feature in reference.features])
    moved = wasserstein(cells[:, :BINS], np.maximum(seen[:, :BINS], 0), centres)
    return np.asarray(np.divide(moved, scale, out=np.zeros_like(moved), where=scale > 0), np.float64)


def _centres(edges: list[float], least: float, greatest: float) -> list[float]:
    """The middle of each bin; bins that do not exist repeat the last, so that they lie nowhere else."""
    if not edges:
        return [least] * BINS
    bounds = [min(least, edges[0]), *edges, max(greatest, edges[-1])]
    middles = [(a + b) / 2.0 for a, b in pairwise(bounds)]
    return middles + [middles[-1]] * (BINS - len(middles))


def _faults(counted: Counted, reference: Reference, cells: Counts, limits: Thresholds) -> tuple[Fault, ...]:
    if counted.rows < limits.min_rows:
        return ()
    faults: list[Fault] = []
    for index, feature in enumerate(reference.features):
        if feature.source != "input":
            continue
        causes = _causes(counted, cells, index, feature.type == "category", feature.presence, limits)
        for cause in _ORDER:  # the deepest cause explains the others
            if cause in causes:
                rows = causes[cause]
                share = rows / counted.rows
                faults.append(Fault(feature=feature.name, cause=cause.value, rows=rows, share=share))
                break
    usual = reference.duplicate_share
    if counted.duplicates > counted.rows * max(limits.fault_share, 2.0 * usual) and _unlikely(
        counted.duplicates, counted.rows, usual, limits.chance
    ):
        share = counted.duplicates / counted.rows
        faults.append(Fault(feature="", cause="duplicate", rows=counted.duplicates, share=share))
    return tuple(faults)


def _causes(
    counted: Counted, cells: Counts, index: int, category: bool, presence: float, limits: Thresholds
) -> dict[Cause, int]:
    """The causes of one feature with their rows: findings of the devices, and cells above what the reference has."""
    least = counted.rows * limits.fault_share
    found = {cause: rows for (i, cause), rows in counted.findings.items() if i == index and rows >= least}
    total = max(int(cells[index].sum()), 1)
    named = {**_CELL_CAUSES, Cell.OTHER: Cause.NEW_CATEGORY} if category else _CELL_CAUSES
    for cell, cause in named.items():
        rows, usual = int(counted.cells[index, cell]), int(cells[index, cell]) / total
        if cause is Cause.MISSING and presence:  # the contract says what is usual, whatever the reference data had
            if rows > counted.rows * (1.0 - presence) and _unlikely(rows, counted.rows, 1.0 - presence, limits.chance):
                found[cause] = rows
        elif rows > max(least, 2.0 * usual * counted.rows) and _unlikely(rows, counted.rows, usual, limits.chance):
            found[cause] = rows
    return found


def _unlikely(rows: int, n: int, usual: float, chance: float) -> bool:
    """Would at least `rows` of `n` be rarer than `chance` if the share were `usual`?"""
    return bool(special.bdtrc(rows - 1, n, min(max(usual, 1.0 / (10.0 * n)), 1.0)) < chance)
