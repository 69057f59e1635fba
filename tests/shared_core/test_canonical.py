"""Signed JSON has one writing and a strict reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import canonical
from shared.errors import InvalidInput, SkerryError, TooLarge
from shared.wire.down import Watermark

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back_and_written_the_same(value: object) -> None:
    data = canonical.dumps(value)
    assert canonical.dumps(canonical.loads(data, limit=10**6)) == data


def test_key_order_does_not_change_the_bytes() -> None:
    assert canonical.dumps({"b": 1, "a": 2}) == canonical.dumps({"a": 2, "b": 1}) == b'{"a":2,"b":1}'


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":2}', b"NaN", b'{"a":Infinity}', b"{", b"\xff", b"[" * 100_000, b"1e", b""],
    ids=lambda d: repr(d[:20]),
)
def test_ambiguous_or_broken_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical.loads(data, limit=10**6)
    assert caught.value.code == "json.malformed"


def test_the_bound_comes_before_the_parser() -> None:
    with pytest.raises(TooLarge):
        canonical.loads(b"[" * 11, limit=10)


def test_a_number_that_is_not_finite_is_never_written() -> None:
    with pytest.raises(InvalidInput) as caught:
        canonical.dumps({"a": float("nan")})
    assert caught.value.code == "json.not_finite"


def test_a_wrong_shape_names_the_field() -> None:
    with pytest.raises(InvalidInput, match="seq"):
        canonical.loads_as(b'{"epoch":"0123456789abcdef","seq":"x"}', Watermark, limit=100)


@given(st.binary(max_size=60))
def test_random_bytes_never_escape_as_another_exception(data: bytes) -> None:
    try:
        canonical.loads(data, limit=50)
    except SkerryError as error:
        assert error.code in {"json.malformed", "json.too_large"}
