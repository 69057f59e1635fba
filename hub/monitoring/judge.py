"""The verdict on one level (fleet or profile) of one closed period, from its sums and what is remembered. Pure.

Rules:
- Faults, drift and their order are `examine`'s. Performance stands beside it: estimated without labels where there is a
  calibration (its whole 95 % interval below what the calibration promises), and measured where truths came back.
- A rise of errors, once found (HDDM_W, ADWIN, or pooled evidence), is told until a period is back to normal: detectors
  fire once and begin anew, people want to see what still holds.
- Noise for privacy counts as rows that are not there, so it never looks like drift.
- `since`: the period from which on something was found without a break, also before it was told.
- Too few rows change nothing about what is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.monitoring.adwin import Adwin, adwin_step
from hub.monitoring.estimate import Estimate, accuracy, auc, binary_f1, calibrate
from hub.monitoring.examine import (
    Counted,
    Drifted,
    Examination,
    Fault,
    Severity,
    Thresholds,
    examine,
    reference_cells,
)
from hub.monitoring.hddm import Hddm, hddm_step
from hub.monitoring.pooled import Pooled, expected_rate, pooled_step
from hub.monitoring.sums import Shape, Sums, split
from shared.drift.layout import BINS, SCORE_BINS, RowCause
from shared.drift.reference import Calibration, Reference

__all__ = [
    "Estimated",
    "Labelled",
    "Memory",
    "Verdict",
    "cell_prior",
    "drift_score",
    "estimate",
    "judge",
    "listed",
]

RISE = 0.15
_BASE_COUNT = 500
_LEAST_LABELLED = 30
_TOLERANCE = 0.01
_LISTED_COUNT = 64
_FULL_COUNT = 10


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the next verdict begins with. base_n, base_errors: the first truths, when there is no calibration."""

    found: tuple[bool, ...] = ()
    hddm: Hddm = Hddm()
    adwin: Adwin = Adwin()
    pooled: Pooled = Pooled()
    base_n: int = 0
    base_errors: int = 0
    risen: str = ""
    since: dict[str, int] = {}


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate with its interval; promised: what the calibration data gave (0: unknown)."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    promised: float = 0.0
    worse: bool = False


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """Truths. risen: which detector found the rise that still holds; empty: none."""

    n: int
    errors: int
    expected: float
    evidence: float
    risen: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown, and what alerts go by. score: the largest distance of an input. since: by what it is about."""

    severity: Severity
    windows: int
    rows: int
    predicted: int
    skipped: int
    score: float
    faults: tuple[Fault, ...]
    drifted: tuple[Drifted, ...]
    estimated: tuple[Estimated, ...]
    labelled: Labelled
    refused: dict[str, int]
    since: dict[str, int]


def judge(
    sums: Sums,
    shape: Shape,
    reference: Reference | None,
    calibration: Calibration | None,
    memory: Memory,
    period: tuple[int, int],
    thresholds: Thresholds | None = None,
) -> tuple[Verdict, Memory]:
    """Judge the sums of `period` (start, end); also what is to be remembered."""
    limits = thresholds or Thresholds()
    parts = split(sums.vector, shape)
    examined = _examined(sums, shape, reference, memory, period, limits)
    estimated = estimate(parts.scores, reference, calibration) if sums.predicted >= limits.min_rows else ()
    labelled, remembered = _labelled(sums, calibration, memory)
    severity = examined.severity
    if labelled.risen or any(one.worse for one in estimated):
        severity = max(severity, Severity.PERFORMANCE)
    told = _subjects(examined, estimated, labelled)
    begun = {*told, *(f"drift:{one.feature}" for one in examined.drifted if one.found)}
    since = {subject: memory.since.get(subject, period[0]) for subject in sorted(begun)}
    enough = sums.rows >= limits.min_rows
    verdict = Verdict(
        severity=severity,
        windows=sums.windows,
        rows=sums.rows,
        predicted=sums.predicted,
        skipped=sums.skipped,
        score=max((d.js for d in examined.drifted if d.source == "input"), default=0.0),
        faults=examined.faults,
        drifted=examined.drifted,
        estimated=estimated,
        labelled=labelled,
        refused={c.value: n for c, n in parts.named_row_causes().items() if c is not RowCause.DUPLICATE},
        since={subject: since[subject] for subject in told},
    )
    found = examined.found if enough else memory.found
    return verdict, msgspec.structs.replace(remembered, found=found, since=since if enough else memory.since)


def _examined(
    sums: Sums,
    shape: Shape,
    reference: Reference | None,
    memory: Memory,
    period: tuple[int, int],
    limits: Thresholds,
) -> Examination:
    if reference is None:
        return Examination(severity=Severity.NONE, faults=(), drifted=(), found=())
    parts = split(sums.vector, shape)
    counted = Counted(
        rows=sums.rows,
        predicted=sums.predicted,
        cells=_without_noise(parts.cells, sums),
        findings=parts.named_findings(),
        duplicates=parts.named_row_causes().get(RowCause.DUPLICATE, 0),
    )
    return examine(counted, reference, reference_cells(reference, *map(float, period)), memory.found, limits)


def _without_noise(cells: NDArray[np.int64], sums: Sums) -> NDArray[np.int64]:
    """Counts of as many rows as have the same scatter without noise."""
    if not sums.variance:
        return cells
    factor = 1.0 + sums.variance * BINS / max(sums.rows, 1)
    return np.asarray(np.maximum(cells, 0) / factor, np.int64)


# --- performance without labels -------------------------------------------------------------------------------------
def estimate(
    scores: NDArray[np.int64], reference: Reference | None, calibration: Calibration | None
) -> tuple[Estimated, ...]:
    """Accuracy, and for two classes ROC AUC and F1, of predictions [score bins, columns]."""
    if reference is None or reference.classes is None or calibration is None or not scores.size:
        return ()
    shape = (SCORE_BINS, calibration.columns)
    if scores.shape != shape:
        return ()
    counts = np.maximum(scores, 0).T
    total = np.array(calibration.total, np.int64).reshape(shape).T
    correct = np.array(calibration.correct, np.int64).reshape(shape).T
    right = calibrate(correct, total, cell_prior(correct, total, _middles(reference)))
    promised = int(correct.sum()) / max(int(total.sum()), 1)
    overall = accuracy(counts, right, total)
    worse = overall.n > 0 and overall.high < promised - _TOLERANCE
    found = [_named("accuracy", overall, promised=promised, worse=worse)]
    if calibration.columns == 2:
        order = np.concatenate([counts[0][::-1], counts[1]])
        positive = np.concatenate([1.0 - right[0][::-1], right[1]])
        found += [_named("auc", auc(order, positive)), _named("f1", binary_f1(counts, right))]
    return tuple(one for one in found if one.n and one.value == one.value)


def cell_prior(
    correct: NDArray[np.int64], total: NDArray[np.int64], middles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What `calibrate` believes before it counts: of a full cell its own share, so that nothing pulls it; of one
    with few rows also the share of all; of an empty one its score."""
    overall = correct.sum() / max(int(total.sum()), 1)
    own = np.divide(correct, total, out=np.zeros(total.shape), where=total > 0)
    few = np.where(total > 0, (correct + overall) / (total + 1.0), np.broadcast_to(middles, total.shape))
    return np.asarray(np.where(total >= _FULL_COUNT, own, few), np.float64)


def _named(metric: str, found: Estimate, promised: float = 0.0, *, worse: bool = False) -> Estimated:
    return Estimated(
        metric=metric, value=found.value, low=found.low, high=found.high, n=found.n, promised=promised, worse=worse
    )


def _middles(reference: Reference) -> NDArray[np.float64]:
    classes = reference.classes
    edges = list(classes.edges) if classes is not None else []
    bounds = np.clip(np.array([0.0, *edges, 1.0]), 0.0, 1.0)
    middles = (bounds[:-1] + bounds[1:]) / 2.0
    return np.concatenate([middles, np.full(SCORE_BINS - len(middles), middles[-1])])


# --- performance by truths ------------------------------------------------------------------------------------------
def _labelled(sums: Sums, calibration: Calibration | None, memory: Memory) -> tuple[Labelled, Memory]:
    expected, base_n, base_errors = _expected(sums, calibration, memory)
    hddm, adwin, risen = memory.hddm, memory.adwin, memory.risen
    for outcome in _outcomes(sums.outcomes):
        hddm, adwin = hddm_step(hddm, outcome), adwin_step(adwin, outcome)
        risen = risen or ("hddm_w" if hddm.drift else "adwin" if adwin.drift else "")
    pooled = memory.pooled
    if sums.labelled and expected > 0:
        pooled = pooled_step(pooled, sums.errors, sums.labelled, expected, RISE)
        if pooled.drift:
            risen, pooled = risen or "pooled", Pooled()
    usual = sums.labelled >= _LEAST_LABELLED and sums.errors <= sums.labelled * expected * (1.0 + RISE / 2.0)
    if risen and memory.risen and usual:
        risen = ""
    said = Labelled(n=sums.labelled, errors=sums.errors, expected=expected, evidence=pooled.evidence, risen=risen)
    kept = msgspec.structs.replace(
        memory, hddm=hddm, adwin=adwin, pooled=pooled, base_n=base_n, base_errors=base_errors, risen=risen
    )
    return said, kept


def _outcomes(parts: list[NDArray[np.int64]]) -> Iterable[float]:
    for part in parts:
        yield from part.astype(float).tolist()


def _expected(sums: Sums, calibration: Calibration | None, memory: Memory) -> tuple[float, int, int]:
    """The error rate that is normal (0: not known yet), and the first truths so far."""
    if calibration is not None:
        total = sum(calibration.total)
        return expected_rate(total - sum(calibration.correct), total), 0, 0
    n, errors = memory.base_n, memory.base_errors
    if n < _BASE_COUNT:
        return 0.0, n + sums.labelled, errors + sums.errors
    return expected_rate(errors, n), n, errors


def _subjects(examined: Examination, estimated: Iterable[Estimated], labelled: Labelled) -> list[str]:
    """What is told, as words that stay the same from one period to the next."""
    told = [f"{fault.cause}:{fault.feature}" for fault in examined.faults]
    told += [f"drift:{one.feature}" for one in examined.drifted if one.confirmed]
    told += [f"estimated:{one.metric}" for one in estimated if one.worse]
    return told + (["errors"] if labelled.risen else [])


def drift_score(sums: Sums, shape: Shape, reference: Reference, period: tuple[int, int]) -> tuple[float, int]:
    """The largest distance of an input from the reference, freed of chance, and the rows behind it."""
    examined = _examined(sums, shape, reference, Memory(), period, Thresholds())
    return max((d.js for d in examined.drifted if d.source == "input"), default=0.0), sums.rows


def listed(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON values; of the features that are as they should be only the most moved are kept."""
    told = [one for one in verdict.drifted if one.found]
    rest = sorted((one for one in verdict.drifted if not one.found), key=lambda one: -one.js)
    shorter = msgspec.structs.replace(verdict, drifted=tuple(told + rest[: max(_LISTED_COUNT - len(told), 0)]))
    plain: dict[str, Any] = msgspec.to_builtins(shorter)
    return plain
