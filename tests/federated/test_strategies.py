"""Flower's strategies over admitted updates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hub.federated.admission import Admitted
from hub.federated.flower.strategies import STRATEGIES, Aggregator, Preselection
from shared.errors import Conflict, InvalidInput

Vector = NDArray[np.float32]
N = 50
PARAMETERS: dict[str, dict[str, float | int]] = {
    "fedprox": {"proximal_mu": 0.1},
    "multikrum": {"malicious": 2, "keep": 7},
    "krum": {"malicious": 2},
}
ROBUST = ("median", "trimmed_mean", "krum", "multikrum", "bulyan")


def _updates(seed: int, bad: int = 0, good: int = 10) -> list[Admitted]:
    """`good` noisy updates towards 1, of which `bad` go four times as far the other way."""
    rng = np.random.default_rng(seed)
    rows = 1.0 + 0.1 * rng.normal(size=(good, N))
    rows[:bad] *= -4
    return [
        Admitted(device_id=f"d-{i}", difference=row.astype(np.float32), examples=10, metrics={})
        for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_moves_towards_the_updates(name: str) -> None:
    weights: Vector = np.zeros(N, np.float32)
    moved = Aggregator(name, PARAMETERS.get(name)).step(weights, _updates(0), 1)
    assert moved.shape == (N,)
    assert moved.dtype == np.float32
    assert (moved > 0).all()
    assert (weights == 0).all()


def test_the_mean_is_weighted_by_examples() -> None:
    updates = [
        Admitted(device_id="a", difference=np.full(2, 1, np.float32), examples=30, metrics={}),
        Admitted(device_id="b", difference=np.full(2, 5, np.float32), examples=10, metrics={}),
    ]
    np.testing.assert_allclose(Aggregator("fedavg").step(np.ones(2, np.float32), updates, 1), 3.0, rtol=1e-6)


@pytest.mark.parametrize("name", ROBUST)
def test_robust_strategies_hold_against_two_of_ten(name: str) -> None:
    parameters = PARAMETERS.get(name)
    count = 11 if name == "bulyan" else 10
    aggregator = Aggregator(name, {"malicious": 2} if name == "bulyan" else parameters)
    moved = aggregator.step(np.zeros(N, np.float32), _updates(1, bad=2, good=count), 1)
    np.testing.assert_allclose(moved, 1.0, atol=0.35)


def test_the_mean_alone_does_not_hold() -> None:
    moved = Aggregator("fedavg").step(np.zeros(N, np.float32), _updates(1, bad=2), 1)
    assert (moved < 0.5).all()


def test_a_preselection_protects_any_strategy() -> None:
    aggregator = Aggregator("fedavg", preselect=Preselection(malicious=2))
    moved = aggregator.step(np.zeros(N, np.float32), _updates(1, bad=2), 1)
    np.testing.assert_allclose(moved, 1.0, atol=0.2)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_a_restored_strategy_goes_on_exactly_where_it_stood(name: str) -> None:
    parameters = {"momentum": 0.9, "learning_rate": 0.3} if name == "fedavgm" else {"learning_rate": 0.03}
    whole, weights = Aggregator(name, parameters), np.zeros(N, np.float32)
    for round_no in (1, 2):
        weights = whole.step(weights, _updates(round_no), round_no)
    resumed = Aggregator(name, parameters)
    resumed.restore(whole.memory())
    expected = whole.step(weights, _updates(3), 3)
    np.testing.assert_array_equal(resumed.step(weights, _updates(3), 3), expected)
    without = Aggregator(name, parameters).step(weights, _updates(3), 3)
    assert not np.array_equal(without, expected)


@pytest.mark.parametrize(
    ("name", "parameters"), [("fedbest", {}), ("fedavg", {"momentum": 0.9}), ("trimmed_mean", {"cut": 0.7})]
)
def test_what_does_not_exist_is_refused(name: str, parameters: dict[str, float]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Aggregator(name, parameters)
    assert caught.value.code == "federated.strategy"


def test_too_few_updates_are_said_to_be_too_few() -> None:
    few = _updates(0, good=4)
    preselected = Aggregator("fedavg", preselect=Preselection(malicious=2))
    for aggregator in (Aggregator("bulyan", {"malicious": 1}), preselected):
        with pytest.raises(Conflict) as caught:
            aggregator.step(np.zeros(N, np.float32), few, 1)
        assert caught.value.code == "federated.too_few"
    with pytest.raises(Conflict):
        Aggregator("fedavg").step(np.zeros(N, np.float32), [], 1)
