"""The order of software versions."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.software_version import KEY_CHARS, sort_key

RISING = ["0.9", "1.0.dev4", "1.0a1", "1.0b2", "1.0rc1", "1.0rc10", "1.0", "1.0.post1", "1.0.1", "1.9", "1.10", "2"]


def test_versions_sort_as_people_mean_them() -> None:
    shuffled = list(RISING)
    Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=lambda text: sort_key(text) or "") == RISING


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1"), ("v1.2", "1.2.0.0"), ("2.1+cpu", "2.1"), ("1.0-beta.1", "1.0b1")]
)
def test_ways_to_write_one_version_are_one(one: str, other: str) -> None:
    assert sort_key(one) == sort_key(other)


@pytest.mark.parametrize("text", ["", "nightly", "1.2.3.4.5", "1..2", "1.2x", "1234567.0", "1.0 ", "\u0663.1"])
def test_what_is_no_version_has_no_order(text: str) -> None:
    assert sort_key(text) is None


@given(st.text(max_size=30))
def test_a_key_has_one_length_and_digits_only(text: str) -> None:
    key = sort_key(text)
    assert key is None or (len(key) == KEY_CHARS and key.isascii() and key.isdigit())
