"""Metrics against definitions and against scikit-learn; the confidence interval against published values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, recall_score, top_k_accuracy_score

from hub.gates.metrics import classification, latency, regression, wilson


def test_classification_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(3)
    scores = random.dirichlet(np.ones(6), 400).astype(np.float32)
    labels = random.integers(0, 6, 400)
    found = classification(scores, labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, scores.argmax(axis=1)))
    assert found["top_3_accuracy"] == pytest.approx(top_k_accuracy_score(labels, scores, k=3))
    assert found["log_loss"] == pytest.approx(log_loss(labels, scores, labels=range(6)), rel=1e-4)
    recalls = recall_score(labels, scores.argmax(axis=1), average=None)
    assert found["per_class_recall_min"] == pytest.approx(min(recalls))


def test_scores_that_are_not_probabilities_have_no_log_loss() -> None:
    assert "log_loss" not in classification(np.array([[3.0, -1.0], [0.0, 5.0]]), np.array([0, 1]))


def test_top_k_of_no_more_than_k_classes_means_nothing_and_is_left_out() -> None:
    found = classification(np.array([[0.2, 0.3, 0.5]]), np.array([2]))
    assert "top_3_accuracy" not in found
    assert "top_5_accuracy" not in found


def test_a_class_that_does_not_occur_does_not_count_as_recalled_or_missed() -> None:
    found = classification(np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]), np.array([0, 0]))
    assert found["per_class_recall_min"] == 1.0
    assert found["classes_present"] == 1.0


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, table I, method 3."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.data())
def test_the_interval_holds_the_proportion_and_stays_within_bounds(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert 0.0 <= low <= hits / n <= high <= 1.0


def test_regression_errors() -> None:
    found = regression(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
    assert found == {"samples": 2.0, "mean_absolute_error": 1.0, "root_mean_squared_error": pytest.approx(2**0.5)}


def test_latency_in_milliseconds() -> None:
    assert latency([]) == {}
    assert latency([0.001] * 100) == {"latency_p50_ms": pytest.approx(1.0), "latency_p99_ms": pytest.approx(1.0)}
