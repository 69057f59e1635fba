"""Windows that are read together give what they give one by one, and nothing else is ever taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.monitoring.references import Watched
from hub.monitoring.sums import Sums, add_words, shape_of, vector_of
from hub.monitoring.together import read_together
from shared.drift.check import read_window
from shared.drift.counts import pack_counts
from shared.drift.layout import SCORE_BINS
from shared.errors import InvalidInput
from shared.wire.up import encode_body
from shared.wire.window import Feedback, Finding, Window
from tests.monitoring.kit import WATCHED, a_window

DECODER = msgspec.msgpack.Decoder(Window)
CHANGES: list[dict[str, Any]] = [
    {},
    {"rows": 70_000},
    {"rows": 300},
    {"predicted": 99, "rows": 99, "cells": a_window().cells},
    {"predicted": 99},
    {"predicted": 101},
    {"ended_s": 0.5},
    {"cells": b""},
    {"cells": b"\x01"},
    {"cells": b"\x07" + bytes(6 * 24)},
    {"cells": pack_counts(np.full((6, 24), -1))},
    {"scores": b""},
    {"scores": pack_counts([100])},
    {"scores": pack_counts([1] + [0] * (SCORE_BINS * WATCHED.shape.columns - 1))},
    {"reference_sha256": "cd" * 32},
    {"reference_sha256": None},
    {"epsilon": 1.0},
    {"findings": [Finding(feature=0, cause="stuck", rows=7)]},
    {"findings": [Finding(feature=6, cause="stuck", rows=7)]},
    {"row_causes": {"duplicate": 2}, "refused": {"shape": 1}},
    {"feedback": Feedback(labelled=3, errors=1, outcomes_count=3, outcomes=b"\x40")},
    {"feedback": Feedback(labelled=1, errors=2)},
    {"feedback": Feedback(labelled=1, outcomes_count=2, outcomes=b"\x00")},
    {"feedback": Feedback(labelled=1, confusion=pack_counts([1] + [0] * (WATCHED.shape.side**2 - 1)))},
]


def changed(number: int, changes: dict[str, Any]) -> Window:
    """A window of so many rows, then changed field by field."""
    return msgspec.structs.replace(a_window(number, changes.get("rows", 100), seed=number), **changes)


def one_by_one(window: Window, watched: Watched) -> Any:
    try:
        return vector_of(window, read_window(window, watched.reference, watched.sha256), watched.shape)
    except InvalidInput as error:
        return error.code


def assert_same(windows: Sequence[Window]) -> int:
    """Returns how many were read together."""
    found = read_together(windows, WATCHED)
    for window, place in zip(windows, found.places, strict=True):
        if place is None:
            continue
        sums = Sums(vector=np.zeros(WATCHED.shape.size, np.int64))
        found.add(sums, [place], WATCHED.shape)
        add_words(sums, window, WATCHED.shape)
        alone = one_by_one(window, WATCHED)
        assert not isinstance(alone, str), f"taken, though it is {alone}"
        assert (sums.vector == alone).all()
    return sum(place is not None for place in found.places)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(range(len(CHANGES))), max_size=12))
def test_what_is_read_together_is_what_is_read_one_by_one(numbers: list[int]) -> None:
    assert_same([changed(place + 1, CHANGES[number]) for place, number in enumerate(numbers)])


@pytest.mark.parametrize("changes", [{}, {"rows": 300}, {"rows": 70_000}, CHANGES[17], CHANGES[19], CHANGES[20]])
def test_a_window_that_plainly_adds_up_needs_no_look_of_its_own(changes: dict[str, Any]) -> None:
    assert assert_same([a_window(1), changed(2, changes), a_window(3)]) == 3


def test_damaged_windows_are_never_taken_for_good_ones() -> None:
    chance = random.Random(11)
    windows: list[Window] = []
    good = encode_body(a_window(1))
    while len(windows) < 400:
        body = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            windows.append(DECODER.decode(bytes(body)))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    assert 0 < assert_same([*windows, a_window(2)]) < len(windows)


def test_sums_of_many_are_the_sums_of_each() -> None:
    windows = [a_window(number, rows=(100, 300, 70_000)[number % 3], seed=number) for number in range(1, 31)]
    found = read_together(windows, WATCHED)
    sums = Sums(vector=np.zeros(WATCHED.shape.size, np.int64))
    found.add(sums, [place for place in found.places if place is not None], WATCHED.shape)
    for window in windows:
        add_words(sums, window, WATCHED.shape)
    assert (sums.vector == sum(one_by_one(window, WATCHED) for window in windows)).all()
    assert sums.windows == 30


def test_a_version_without_a_reference_is_read_one_by_one() -> None:
    bare = Watched(None, None, None, shape_of(None))
    window = a_window(reference_sha256=None, cells=np.zeros(0, np.int64), scores=b"")
    assert read_together([window], bare).places == [None]
    assert read_together([], WATCHED).places == []
