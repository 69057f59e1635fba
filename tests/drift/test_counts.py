"""Counts as bytes, windows against their reference, and noise for privacy."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drift.private import system_geometric
from shared.drift.check import histograms, outcomes_of, read_window
from shared.drift.counts import pack_counts, unpack_counts
from shared.drift.layout import CELLS, SCORE_BINS
from shared.drift.privacy import noisy, variance
from shared.drift.reference import parse_reference
from shared.errors import InvalidInput
from shared.wire.window import Feedback, Finding, Window
from tests.drift.kit import digits_reference

REFERENCE = parse_reference(digits_reference()[0])
DIGEST = "ab" * 32


def a_window(**changes: Any) -> Window:
    """Three rows, two of them predicted."""
    cells = np.zeros((len(REFERENCE.features), CELLS), np.int64)
    cells[:4, 0], cells[4:, 1] = 3, 2
    scores = np.zeros((SCORE_BINS, 10), np.int64)
    scores[0, 0] = 2
    fields: dict[str, Any] = {
        "model": "digits",
        "version": 1,
        "series": "0" * 16,
        "window_id": 1,
        "started_s": 1.0,
        "ended_s": 2.0,
        "reference_sha256": DIGEST,
        "rows": 3,
        "predicted": 2,
        "cells": pack_counts(cells),
        "scores": pack_counts(scores),
    }
    return Window(**(fields | changes))


@given(st.lists(st.one_of(st.integers(0, 300), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))))
def test_packed_counts_come_back(counts: list[int]) -> None:
    if counts and min(counts) < 0 and max(counts) > 2**31 - 1:
        with pytest.raises(InvalidInput):
            pack_counts(counts)
        return
    assert unpack_counts(pack_counts(counts), len(counts)).tolist() == counts


def test_thirty_two_features_are_three_kilobytes_at_the_most() -> None:
    assert len(pack_counts(np.full((32, CELLS), 2**32 - 1))) == 3073
    assert len(pack_counts(np.full((32, CELLS), 200))) == 769


@given(st.binary(max_size=60), st.integers(0, 40))
def test_bytes_that_are_not_the_counts_expected_are_refused(data: bytes, expected: int) -> None:
    try:
        found = unpack_counts(data, expected)
    except InvalidInput as error:
        assert error.code == "counts.malformed"
    else:
        assert len(found) == expected


def test_a_window_that_adds_up_is_read() -> None:
    found = read_window(a_window(), REFERENCE, DIGEST)
    assert (found.cells.shape, found.scores.shape) == ((26, CELLS), (SCORE_BINS, 10))
    assert int(found.cells[:4].sum()) == 12


def test_outcomes_come_back_in_order() -> None:
    feedback = Feedback(labelled=5, errors=2, outcomes_count=5, outcomes=b"\x50")
    assert outcomes_of(feedback).tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 4},
        {"predicted": 3},
        {"rows": 1},
        {"ended_s": 0.5},
        {"scores": pack_counts([1] + [0] * 199)},
        {"cells": b""},
        {"cells": pack_counts(np.zeros((26, CELLS - 1)))},
        {"cells": pack_counts(np.full((26, CELLS), -1))},
        {"reference_sha256": "cd" * 32},
        {"reference_sha256": None},
        {"findings": [Finding(feature=26, cause="stuck", rows=1)]},
        {"findings": [Finding(feature=0, cause="stuck", rows=4)]},
        {"feedback": Feedback(labelled=1, errors=2)},
        {"feedback": Feedback(labelled=1, outcomes_count=1)},
        {"feedback": Feedback(labelled=1, outcomes_count=2, outcomes=b"\x00")},
        {"feedback": Feedback(labelled=1, errors=0, outcomes_count=1, outcomes=b"\x80")},
        {"feedback": Feedback(labelled=1, confusion=pack_counts([2] + [0] * 120))},
        {"feedback": Feedback(labelled=1, confusion=pack_counts([1]))},
    ],
    ids=str,
)
def test_a_window_that_does_not_add_up_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_window(a_window(**changes), REFERENCE, DIGEST)
    assert caught.value.code in {"window.inconsistent", "window.mismatch", "counts.malformed"}


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_never_gives_counts_that_do_not_add_up(position: int, flip: int) -> None:
    data = bytearray(msgspec.msgpack.encode(a_window()))
    data[position % len(data)] ^= flip
    try:
        window = msgspec.msgpack.decode(bytes(data), type=Window)
        found = read_window(window, REFERENCE, DIGEST)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    except InvalidInput as error:
        assert error.code in {"window.inconsistent", "window.mismatch", "counts.malformed"}
        return
    if not window.epsilon:
        assert (found.cells[:4].sum(axis=1) == window.rows).all()
        assert (found.cells[4:].sum(axis=1) == window.predicted).all()


def test_noise_is_unbiased_and_as_large_as_it_says() -> None:
    random = np.random.default_rng(1)
    count, epsilon = histograms(REFERENCE), 20.0
    truth = np.full(40_000, 50)
    found = noisy(truth, epsilon=epsilon, histograms=count, geometric=random.geometric)
    noise = found - truth
    expected = variance(epsilon, count)
    assert abs(noise.mean()) < 4 * np.sqrt(expected / len(truth))
    assert abs(noise.var() / expected - 1) < 0.05
    assert variance(0.0, count) == 0.0
    quiet = a_window(epsilon=epsilon, cells=pack_counts(np.full((26, CELLS), -2)))
    assert int(read_window(quiet, REFERENCE, DIGEST).cells[0, 0]) == -2


def test_noise_of_the_device_is_geometric() -> None:
    found = system_geometric(0.2, 40_000)
    assert found.min() == 1
    assert abs(found.mean() - 5.0) < 0.2
    assert abs((found == 1).mean() - 0.2) < 0.02


@pytest.mark.parametrize("ratio", [1, 2, 5])
def test_one_row_changes_what_is_sent_by_no_more_than_epsilon(ratio: int) -> None:
    """The likelihood of any noise value against the same shifted by `ratio` counts, for one of the histograms."""
    epsilon, count = 3.0, 4
    a = np.exp(-epsilon / (2 * count))
    k = np.arange(-200, 201)
    probability = (1 - a) / (1 + a) * a ** np.abs(k)
    worst = np.max(np.log(probability[ratio:]) - np.log(probability[:-ratio]))
    assert worst <= ratio * epsilon / (2 * count) + 1e-9
