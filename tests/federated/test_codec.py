"""Updates as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput, SkerryError
from shared.federated.codec import Scheme, decode, encode, encoded_bytes

SIZES = (6, 1, 0, 13)
schemes = st.sampled_from(list(Scheme))
numbers = st.floats(-1e6, 1e6, width=32)
vectors = st.lists(numbers, min_size=20, max_size=20).map(lambda x: np.array(x, np.float32))


@given(vectors, schemes, st.floats(0.05, 1.0))
def test_what_is_left_out_is_exactly_what_comes_with_the_next(x: np.ndarray, scheme: Scheme, keep: float) -> None:
    data, residual = encode(x, SIZES, scheme, keep=keep)
    assert len(data) == encoded_bytes(SIZES, scheme, keep)
    np.testing.assert_allclose(decode(data, SIZES) + residual, x, rtol=1e-5, atol=1e-5)


@given(vectors)
def test_eight_bits_are_within_half_a_step_of_each_tensor(x: np.ndarray) -> None:
    decoded = decode(encode(x, SIZES, Scheme.INT8)[0], SIZES)
    for a, b in ((0, 6), (6, 7), (7, 20)):
        assert np.abs(decoded[a:b] - x[a:b]).max() <= np.abs(x[a:b]).max() / 127 * 0.501 + 1e-6


def test_residuals_make_small_entries_arrive_in_the_end() -> None:
    x = np.linspace(0.01, 1.0, 20, dtype=np.float32)
    residual, arrived = None, np.zeros(20, np.float32)
    for _ in range(200):
        data, residual = encode(x, SIZES, Scheme.TOP, residual, keep=0.1)
        arrived += decode(data, SIZES)
    np.testing.assert_allclose(arrived / 200, x, atol=0.1)


def test_top_sends_the_largest() -> None:
    x = np.zeros(20, np.float32)
    x[3], x[17] = -5.0, 2.0
    decoded = decode(encode(x, SIZES, Scheme.TOP, keep=0.1)[0], SIZES)
    np.testing.assert_allclose(decoded, x, atol=0.03)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_vector_or_refused(data: bytes) -> None:
    try:
        vector = decode(data, SIZES)
    except InvalidInput as error:
        assert error.code.startswith("update.")
    else:
        assert vector.shape == (20,)
        assert np.isfinite(vector).all()


@given(vectors, schemes, st.data())
def test_a_changed_length_is_refused(x: np.ndarray, scheme: Scheme, data: st.DataObject) -> None:
    update = encode(x, SIZES, scheme)[0]
    cut = data.draw(st.integers(0, len(update) - 1))
    with pytest.raises(InvalidInput, match="update"):
        decode(update[:cut], SIZES)
    with pytest.raises(InvalidInput, match="does not fit"):
        decode(update + b"\0", SIZES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_on_both_sides(bad: float) -> None:
    x = np.zeros(20, np.float32)
    x[5] = bad
    with pytest.raises(SkerryError) as caught:
        encode(x, SIZES, Scheme.INT8)
    assert caught.value.code == "update.not_finite"
    with pytest.raises(SkerryError) as caught:
        decode(b"\x01" + x.tobytes(), SIZES)
    assert caught.value.code == "update.not_finite"
    scales = np.array([bad, 1, 1, 1], "<f4").tobytes()
    with pytest.raises(SkerryError) as caught:
        decode(b"\x02" + scales + bytes(20), SIZES)
    assert caught.value.code == "update.not_finite"


def test_a_vector_of_another_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="20 weights"):
        encode(np.zeros(19, np.float32), SIZES, Scheme.INT8)


def test_eight_bits_take_a_quarter_of_the_bytes() -> None:
    sizes = (64 * 32, 32, 320, 10)
    assert encoded_bytes(sizes, Scheme.INT8) / encoded_bytes(sizes, Scheme.FLOAT32) < 0.26
    assert encoded_bytes(sizes, Scheme.TOP, 0.1) / encoded_bytes(sizes, Scheme.FLOAT32) < 0.07
