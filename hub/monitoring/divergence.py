"""How far counts are from their reference: significance, and the size of the effect. Pure; arrays in, arrays out.

Rules:
- Counts are integers over the same cells; rows are features, columns cells. Nothing depends on the order of devices.
- An empty cell gets half a count, never a tiny number (which would invent an arbitrarily large divergence).
- Cells in which the reference expects fewer than `MIN_EXPECTED` are pooled into one, so that the chi-squared
  distribution holds at small samples (Cochran 1954).
- p-values find the smallest change once n is large, and fixed thresholds on PSI fire on noise while n is small. So a
  verdict needs both: a p-value, and a divergence freed of the part that chance alone explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["Comparison", "MIN_EXPECTED", "compare", "psi_limit", "wasserstein"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
MIN_EXPECTED = 1.0
_LAMBDA = 2.0 / 3.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row per feature: shapes [features].

    chi2, dof, p: power-divergence test of two samples. js: Jensen-Shannon distance (base e, 0 to 0.83) without
    the part that chance alone gives on average. psi: population stability index. n: observations.
    """

    chi2: Floats
    dof: NDArray[np.int64]
    p: Floats
    js: Floats
    psi: Floats
    n: Counts


def compare(reference: Counts, current: Counts) -> Comparison:
    """Compare `current` with `reference`, both [features, cells]; a row without observations has p = 1.

    Source: Cressie and Read 1984, whose exponent 2/3 keeps the level of Pearson's test at small expectations and sees a
    cell that has emptied (clipping) better; Lin 1991 for the Jensen-Shannon divergence.
    """
    r, c = _pooled(np.asarray(reference, np.float64), np.asarray(current, np.float64))
    n, m = c.sum(axis=1), r.sum(axis=1)
    usable = (n > 0) & (m > 0)
    n_, m_ = np.where(usable, n, 1.0), np.where(usable, m, 1.0)
    filled = (r + c) > 0
    dof = np.maximum(filled.sum(axis=1) - 1, 0)
    chi2 = np.where(usable, _power_divergence(r, c), 0.0)
    p = np.where(usable & (dof > 0), special.chdtrc(np.maximum(dof, 1), chi2), 1.0)
    share_r, share_c = _shares(r, filled), _shares(c, filled)
    chance = dof / 8.0 * (1.0 / n_ + 1.0 / m_)
    js = np.sqrt(np.maximum(_js_divergence(share_r, share_c) - chance, 0.0))
    psi = ((share_c - share_r) * _log_ratio(share_c, share_r)).sum(axis=1)
    return Comparison(
        chi2=chi2,
        dof=dof.astype(np.int64),
        p=p,
        js=np.where(usable, js, 0.0),
        psi=np.where(usable, psi, 0.0),
        n=n.astype(np.int64),
    )


def psi_limit(n: Counts, reference_n: int, cells: int, alpha: float = 0.05) -> Floats:
    """The PSI that `n` observations exceed by chance with probability `alpha`; shape of `n`.

    Source: PSI is asymptotically chi2(cells - 1) * (1/n + 1/m) (Yurdakul and Naranjo 2020).
    """
    if reference_n < 1 or cells < 2:
        raise ValueError("a reference needs observations and at least two cells")
    quantile = float(special.chdtri(cells - 1, alpha))
    return quantile * (1.0 / np.maximum(np.asarray(n, np.float64), 1.0) + 1.0 / reference_n)


def wasserstein(reference: Counts, current: Counts, centres: Floats) -> Floats:
    """Earth mover's distance between histograms whose cells lie at `centres` (all [features, cells], centres
    ascending), in the unit of `centres`; positive where the current values lie higher on average, else negative.
    """
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    share_r = r / np.maximum(r.sum(axis=1, keepdims=True), 1.0)
    share_c = c / np.maximum(c.sum(axis=1, keepdims=True), 1.0)
    gap = np.cumsum(share_c - share_r, axis=1)[:, :-1]
    distance = (np.abs(gap) * np.diff(centres, axis=1)).sum(axis=1)
    moved = ((share_c - share_r) * centres).sum(axis=1)
    known = (r.sum(axis=1) > 0) & (c.sum(axis=1) > 0)
    return np.where(known, np.where(moved < 0, -distance, distance), 0.0)


def _power_divergence(r: Floats, c: Floats) -> Floats:
    both = r + c
    total = np.maximum(both.sum(axis=1, keepdims=True), 1.0)
    out = np.zeros(r.shape[0])
    for x in (r, c):
        expected = both * x.sum(axis=1, keepdims=True) / total
        ratio = np.divide(x, expected, out=np.zeros_like(x), where=expected > 0)
        out += (x * (ratio**_LAMBDA - 1.0)).sum(axis=1)
    return np.asarray(np.maximum(out, 0.0) * 2.0 / (_LAMBDA * (_LAMBDA + 1.0)), np.float64)


def _pooled(r: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Both with one more column, in which the cells with too small an expectation are pooled."""
    n, m = c.sum(axis=1, keepdims=True), r.sum(axis=1, keepdims=True)
    total = np.maximum(n + m, 1.0)
    rare = (r + c) * np.minimum(n, m) / total < MIN_EXPECTED
    pooled = [np.concatenate([np.where(rare, 0.0, x), (x * rare).sum(axis=1, keepdims=True)], axis=1) for x in (r, c)]
    return pooled[0], pooled[1]


def _shares(x: Floats, filled: NDArray[np.bool_]) -> Floats:
    halves = np.where(filled, np.where(x > 0, x, 0.5), 0.0)
    return np.asarray(halves / np.maximum(halves.sum(axis=1, keepdims=True), 0.5), np.float64)


def _log_ratio(a: Floats, b: Floats) -> Floats:
    ratio = np.divide(a, b, out=np.ones_like(a), where=(a > 0) & (b > 0))
    return np.asarray(np.log(ratio), np.float64)


def _js_divergence(a: Floats, b: Floats) -> Floats:
    middle = (a + b) / 2.0
    both = a * _log_ratio(a, middle) + b * _log_ratio(b, middle)
    return np.asarray(both.sum(axis=1) / 2.0, np.float64)
