"""Array files are read without trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput, TooLarge
from shared.runtime.arrays import array_bytes, load_array, parse_array

GOOD = array_bytes(np.arange(6, dtype=np.float32).reshape(2, 3))


def test_an_array_comes_back_as_it_was(tmp_path: Path) -> None:
    for array in (np.zeros((2, 0), np.int8), np.array(5, np.int64), np.array([[True, False]]), np.eye(3)[:, ::2]):
        (tmp_path / "a.npy").write_bytes(array_bytes(array))
        found = load_array(tmp_path / "a.npy")
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
        assert found.shape == array.shape


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_damage_gives_an_array_or_a_code(position: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= change
    try:
        assert parse_array(bytes(damaged)).nbytes == 24
    except InvalidInput as error:
        assert error.code == "array.malformed"


@given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda data: GOOD[:10] + data))
def test_other_bytes_give_a_code(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_array(data)
    assert caught.value.code == "array.malformed"


@pytest.mark.parametrize("size", range(0, len(GOOD), 7))
def test_truncation_is_refused(size: int) -> None:
    with pytest.raises(InvalidInput):
        parse_array(GOOD[:size])


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    header = GOOD.replace(b"(2, 3)", b"(9**9,)".ljust(6)[:6])
    impossible = (
        array_bytes(np.zeros((0, 1), np.int8)).replace(b"(0, 1)", b"(" + b"9" * 12 + b", 0)").replace(b" " * 9, b"", 1)
    )
    for data in (GOOD + b"\0", header, impossible, GOOD.replace(b"(2, 3), }  ", b"(99999999,)}"[:11])):
        with pytest.raises(InvalidInput):
            parse_array(data)


def test_objects_and_fortran_order_are_refused() -> None:
    for data in (GOOD.replace(b"<f4", b"|O4"), GOOD.replace(b"False", b"True ")):
        with pytest.raises(InvalidInput):
            parse_array(data)


def test_the_bound_on_the_file_holds(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(GOOD)
    with pytest.raises(TooLarge):
        load_array(tmp_path / "a.npy", limit=len(GOOD) - 1)
