"""Tests over counts: their level without drift, their power with it, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hub.monitoring.discovery import discoveries, persistent
from hub.monitoring.divergence import compare, psi_limit, wasserstein

REPEATS = 1500
_RNG = np.random.default_rng(7)
_SAMPLE = np.exp(_RNG.normal(size=50_000))
_EDGES = np.quantile(_SAMPLE, np.arange(1, 20) / 20)


def _cells(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts of each row of x [repeats, n] in the 20 cells of the reference."""
    cells = np.searchsorted(_EDGES, x)
    return np.stack([np.bincount(row, minlength=20) for row in cells])


_REFERENCE = _cells(_SAMPLE[None])


def _alarms(x: NDArray[np.float64]) -> float:
    found = compare(np.repeat(_REFERENCE, len(x), axis=0), _cells(x))
    return float(((found.p < 0.05) & (found.js > 0.02)).mean())


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_the_level_holds_without_drift(n: int) -> None:
    assert _alarms(np.exp(_RNG.normal(size=(REPEATS, n)))) <= 0.07


def test_clipping_outliers_and_shift_are_found() -> None:
    clean = np.exp(_RNG.normal(size=(REPEATS, 200)))
    assert _alarms(np.minimum(clean, np.quantile(_SAMPLE, 0.95))) >= 0.8
    assert _alarms(clean + 0.1 * _SAMPLE.std()) >= 0.49
    wild = np.exp(_RNG.normal(size=(REPEATS, 1000)))
    wild[_RNG.random(wild.shape) < 0.05] = 10 * _SAMPLE.std()
    assert _alarms(wild) >= 0.97


def test_a_tiny_change_in_very_many_observations_is_no_alarm() -> None:
    shifted = np.exp(_RNG.normal(loc=0.03, size=(20, 200_000)))
    found = compare(np.repeat(_REFERENCE, 20, axis=0), _cells(shifted))
    assert (found.p < 0.05).mean() > 0.5  # significant
    assert (found.js <= 0.02).all()  # and not worth anybody's night


def test_the_statistic_is_the_power_divergence_of_the_table() -> None:
    current = _cells(np.exp(_RNG.normal(loc=0.2, size=(1, 3000))))
    expected = stats.chi2_contingency(np.concatenate([_REFERENCE, current]), lambda_="cressie-read")
    found = compare(_REFERENCE, current)
    assert found.chi2[0] == pytest.approx(expected.statistic)
    assert found.p[0] == pytest.approx(expected.pvalue)
    assert found.dof[0] == expected.dof


@pytest.mark.parametrize("n", [100, 1000, 5000])
def test_the_limit_of_psi_knows_the_sample(n: int) -> None:
    found = compare(np.repeat(_REFERENCE, REPEATS, axis=0), _cells(np.exp(_RNG.normal(size=(REPEATS, n)))))
    assert (found.psi > psi_limit(found.n, 50_000, 20)).mean() <= 0.12


def test_nothing_observed_is_no_drift() -> None:
    found = compare(_REFERENCE, np.zeros_like(_REFERENCE))
    assert (found.p[0], found.js[0], found.psi[0], found.n[0]) == (1.0, 0.0, 0.0, 0)


counts = st.lists(st.integers(0, 10_000), min_size=4, max_size=4)


@given(st.lists(counts, min_size=1, max_size=5), st.lists(counts, min_size=5, max_size=5))
def test_any_counts_give_finite_numbers(current: list[list[int]], reference: list[list[int]]) -> None:
    found = compare(np.array(reference[: len(current)]), np.array(current))
    for values in (found.chi2, found.p, found.js, found.psi):
        assert np.isfinite(values).all()
    assert ((found.p >= 0) & (found.p <= 1)).all()


@given(counts)
def test_a_sample_equal_to_its_reference_is_no_drift(reference: list[int]) -> None:
    found = compare(np.array([reference]), np.array([reference]))
    assert found.p[0] > 0.99
    assert found.js[0] == 0.0


def test_the_distance_is_the_shift_with_its_sign() -> None:
    centres = np.arange(10.0)[None]
    up, down = np.zeros((1, 10), np.int64), np.zeros((1, 10), np.int64)
    up[0, 5], down[0, 3] = 7, 9
    assert wasserstein(down, up, centres)[0] == pytest.approx(2.0)
    assert wasserstein(up, down, centres)[0] == pytest.approx(-2.0)


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    p = np.array([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205])
    assert discoveries(p, 0.05).tolist() == [True, True, False, False, False, False, False, False]
    assert (discoveries(p, 0.2) == (stats.false_discovery_control(p) <= 0.2)).all()
    assert discoveries(np.empty(0), 0.05).shape == (0,)


def test_what_is_no_p_value_or_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        discoveries(np.array([0.1, np.nan]), 0.05)
    with pytest.raises(ValueError, match="rate"):
        discoveries(np.array([0.1]), 1.0)
    with pytest.raises(ValueError, match="same features"):
        persistent(np.array([True]), np.array([True, False]))


def test_a_month_without_drift_is_quiet() -> None:
    months, days, features, n = 60, 30, 30, 1000
    share = _REFERENCE[0] / _REFERENCE[0].sum()
    reference = np.repeat(_REFERENCE, features, axis=0)
    noisy = 0
    for _ in range(months):
        before, alarm = np.zeros(features, bool), False
        for _day in range(days):
            found = compare(reference, _RNG.multinomial(n, share, size=features))
            now = discoveries(found.p, 0.05) & (found.js > 0.02)
            alarm = alarm or bool(persistent(now, before).any())
            before = now
        noisy += alarm
    assert noisy <= 2
