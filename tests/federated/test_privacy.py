"""Differential privacy: what is clipped, how much noise there is, and that it is counted rightly."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest
from flwr.supercore.privacy_accounting import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    SamplingMethod,
)
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from hub.federated.accountant import affordable, delta_at, epsilon_at
from shared.federated.clipping import clip, next_clip, split
from shared.federated.noise import gaussian

DELTA = 1e-5


# --- clipping ---------------------------------------------------------------------------------------------------------
@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_nothing_is_longer_than_the_clip_and_what_is_shorter_stays(seed: int, norm: float, bound: float) -> None:
    raw = np.random.default_rng(seed).normal(size=50)
    vector = (raw * (norm / np.linalg.norm(raw))).astype(np.float32)
    clipped, within = clip(vector, bound)
    assert np.linalg.norm(clipped.astype(np.float64)) <= bound
    assert within == (np.linalg.norm(vector.astype(np.float64)) <= bound)
    if within:
        assert np.array_equal(clipped, vector)
    else:
        np.testing.assert_allclose(clipped, vector * (bound / norm), rtol=1e-4)


@pytest.mark.parametrize(("first", "median"), [(100.0, 2.0), (0.01, 2.0)])
def test_an_adaptive_clip_finds_the_median_of_the_norms_through_its_noise(first: float, median: float) -> None:
    rng, bound = np.random.default_rng(1), first
    for _ in range(120):
        norms = rng.lognormal(math.log(median), 0.5, 20)
        within = float((norms <= bound).mean() + rng.normal(0, 1 / 20))
        bound = next_clip(bound, within)
    assert median / 1.5 < bound < median * 1.5


@given(st.floats(0.05, 20), st.integers(1, 10_000))
def test_the_noise_of_sum_and_count_together_costs_what_was_wanted(multiplier: float, devices: int) -> None:
    parts = split(multiplier, devices)
    assert parts.vector**-2 + (2 * parts.count) ** -2 == pytest.approx(multiplier**-2)
    assert multiplier <= parts.vector <= 1.16 * multiplier


# --- noise ------------------------------------------------------------------------------------------------------------
def test_noise_is_normal_and_that_of_its_seed() -> None:
    noise = gaussian(bytes(31) + b"\x05", 200_001, 3.0)
    assert noise.shape == (200_001,)
    assert kstest(noise, "norm", args=(0, 3.0)).pvalue > 1e-3
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01
    assert np.array_equal(noise, gaussian(bytes(31) + b"\x05", 200_001, 3.0))
    assert not np.array_equal(noise, gaussian(bytes(31) + b"\x06", 200_001, 3.0))
    assert not gaussian(bytes(32), 10, 0.0).any()


# --- the accountant ---------------------------------------------------------------------------------------------------
def _flower(multiplier: float, releases: int, method: SamplingMethod, sample: int = 1, population: int = 1) -> float:
    relation = NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = RdpAccountant(PrivacyConfig(DELTA, population, relation, method))
    accountant.compose(GaussianPrivacyEvent(multiplier, sample, population), releases)
    return accountant.get_epsilon(DELTA)


def _moments(multiplier: float, releases: int, rate: float) -> float:
    """Epsilon by Mironov et al. 2019, equation 9, at whole orders; from there by Canonne et al. 2020."""
    best = math.inf
    for order in range(2, 257):
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * multiplier**2)
            for k in range(order + 1)
        ]  # fmt: skip
        peak = max(terms)
        renyi = releases * (peak + math.log(sum(math.exp(term - peak) for term in terms))) / (order - 1)
        best = min(best, renyi + math.log1p(-1 / order) - (math.log(DELTA) + math.log(order)) / (order - 1))
    return best


@pytest.mark.parametrize(
    ("multiplier", "releases", "rate"), [(1.1, 14_062, 256 / 60_000), (1.0, 1000, 0.01), (4.0, 300, 0.1)]
)
def test_flowers_accountant_counts_sampling_as_the_moments_of_the_subsampled_gaussian_do(
    multiplier: float, releases: int, rate: float
) -> None:
    population = 60_000
    found = _flower(multiplier, releases, SamplingMethod.POISSON, round(rate * population), population)
    assert found == pytest.approx(_moments(multiplier, releases, rate), rel=0.02)


def test_a_published_value_comes_out() -> None:
    """TensorFlow Privacy's tutorial: 60,000 samples, batches of 250, noise 1.3, 15 epochs: (1.18, 1e-5), by moments."""
    older = _moments(1.3, 15 * 240, 250 / 60_000)
    assert 0.9 < older < 1.19  # today's conversion is a little tighter


@pytest.mark.parametrize(("multiplier", "releases"), [(1.0, 1), (1.0, 30), (2.0, 30), (4.0, 100), (0.5, 10)])
def test_ours_is_below_flowers_bound_without_sampling_and_not_by_much(multiplier: float, releases: int) -> None:
    bound = _flower(multiplier, releases, SamplingMethod.NO_AMPLIFICATION)
    ours = epsilon_at(DELTA, multiplier, releases)
    assert 0.9 * bound < ours < bound
    assert ours > _flower(multiplier, releases, SamplingMethod.POISSON, 5, 10)  # we claim nothing for sampling


@pytest.mark.parametrize(("multiplier", "releases"), [(1.0, 1), (3.0, 40), (0.8, 2)])
def test_ours_is_what_the_loss_of_privacy_itself_says(multiplier: float, releases: int) -> None:
    """Delta by its definition: the integral over the outputs of how much likelier they are, worked out numerically."""
    epsilon = epsilon_at(DELTA, multiplier, releases)
    deviation = multiplier / math.sqrt(releases)
    x = np.linspace(-40 * deviation, 40 * deviation + 1, 2_000_001)
    step = float(x[1] - x[0])
    here = np.exp(-((x - 1) ** 2) / (2 * deviation**2))
    there = np.exp(-(x**2) / (2 * deviation**2))
    excess = np.maximum(0.0, here - math.exp(epsilon) * there).sum() * step / (deviation * math.sqrt(2 * math.pi))
    assert excess == pytest.approx(DELTA, rel=1e-3)


@given(st.floats(0.3, 10), st.integers(1, 500), st.floats(1e-9, 1e-2))
def test_more_releases_and_less_noise_cost_more(multiplier: float, releases: int, delta: float) -> None:
    epsilon = epsilon_at(delta, multiplier, releases)
    assert delta_at(epsilon, multiplier, releases) <= delta
    assert epsilon_at(delta, multiplier, releases + 1) >= epsilon
    assert epsilon_at(delta, multiplier * 1.1, releases) <= epsilon


def test_no_noise_is_no_privacy_and_no_release_costs_nothing() -> None:
    assert epsilon_at(DELTA, 0.0, 1) == math.inf
    assert epsilon_at(DELTA, 0.01, 10_000) == math.inf
    assert epsilon_at(DELTA, 1.0, 0) == 0


@pytest.mark.parametrize(("epsilon", "multiplier"), [(8.0, 1.0), (8.0, 4.0), (1.0, 10.0), (0.1, 0.5)])
def test_a_budget_pays_for_so_many_releases_and_not_for_one_more(epsilon: float, multiplier: float) -> None:
    paid = affordable(epsilon, DELTA, multiplier)
    expected = next(k for k in count() if epsilon_at(DELTA, multiplier, k + 1) > epsilon)
    assert paid == expected
