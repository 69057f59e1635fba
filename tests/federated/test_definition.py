"""Runs as data, and when a round is over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.admission import Admitted
from hub.federated.definition import parse_run
from hub.federated.rounds import Judgement, RoundCounts, judge_round, outliers
from shared.errors import InvalidInput


def test_a_model_is_enough() -> None:
    run = parse_run(b"model: digits\n")
    assert (run.rounds.goal, run.quorum, run.strategy.name) == (10, 7, "fedyogi")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"{}", "model"),
        (b"model: digits\nrunds: {}", "runds"),
        (b"model: digits\nrounds: {count: 0}", "rounds.count"),
        (b"model: digits\nrounds: {goal: 5, quorum: 6}", "rounds.quorum"),
        (b"model: digits\nrounds: {count: many}", "rounds.count"),
        (b"model: digits\ntraining: {scheme: int4}", "training.scheme"),
        (b"model: digits\ntraining: {learning_rate: .inf}", "training.learning_rate"),
        (b"model: digits\nstrategy: {malicious: 4}\nrounds: {goal: 10}", "strategy.malicious"),
        (b"model: digits\nprivacy: {epsilon: 0}", "privacy.epsilon"),
        (b"model: digits\nprivacy: {secure_aggregation: true}\nstrategy: {name: median}", "secure_aggregation"),
        (b"model: digits\nprivacy: {secure_aggregation: true}\nrounds: {mode: buffered}", "secure_aggregation"),
        (b"model: digits\nprivacy: {secure_aggregation: true}\ntraining: {scheme: top}", "secure_aggregation"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_run(text)
    assert caught.value.code == "federated.invalid"
    assert named in caught.value.message


counts = st.integers(0, 30)


@given(counts, counts, counts, st.floats(0, 200))
def test_a_round_never_closes_without_its_quorum_nor_outlives_its_deadline(
    joined: int, admitted: int, lost: int, elapsed_s: float
) -> None:
    seen = RoundCounts(asked=30, joined=joined, admitted=admitted, lost=lost)
    verdict = judge_round(seen, goal=20, quorum=12, elapsed_s=elapsed_s, deadline_s=100.0)
    if verdict is Judgement.CLOSE:
        assert admitted >= 12
    if verdict is Judgement.ABANDON:
        assert admitted < 12
    if elapsed_s >= 100.0:
        assert verdict is not Judgement.WAIT


def test_a_round_in_which_all_have_answered_does_not_wait() -> None:
    seen = RoundCounts(asked=13, joined=13, admitted=8, lost=5)
    assert judge_round(seen, 10, 7, 1.0, 100.0) is Judgement.CLOSE
    assert judge_round(seen, 10, 9, 1.0, 100.0) is Judgement.ABANDON
    not_yet = RoundCounts(asked=13, joined=12, admitted=8, lost=4)
    assert judge_round(not_yet, 10, 7, 1.0, 100.0) is Judgement.WAIT


def _updates(*lengths: float) -> list[Admitted]:
    return [
        Admitted(device_id=f"d-{i}", difference=np.array([n], np.float32), examples=1, metrics={})
        for i, n in enumerate(lengths)
    ]


def test_who_is_much_longer_than_the_others_is_an_outlier() -> None:
    assert outliers(_updates(1, 1.2, 0.9, -4, 1.1, 1e9), 3.0) == ["d-3", "d-5"]
    assert outliers(_updates(1, 1.2, 0.9), 3.0) == []
    assert outliers(_updates(1, 100), 3.0) == []
