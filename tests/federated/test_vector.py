"""The flat vector: nothing is lost on the way, and what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidInput
from shared.federated.vector import flatten, sizes, unflatten

SHAPES = st.dictionaries(
    st.text("abcw_0123", min_size=1, max_size=4), st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=5
)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_what_is_flattened_comes_back_as_it_was(shapes: dict[str, list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    vector = flatten(weights)
    assert vector.shape == (sum(sizes(shapes)),)
    back = unflatten(vector, shapes)
    assert back.keys() == weights.keys()
    assert all(np.array_equal(back[name], weights[name]) for name in weights)


def test_the_order_is_that_of_the_names() -> None:
    vector = flatten({"w": np.array([[2.0, 3.0]]), "b": np.array([1.0])})
    assert vector.tolist() == [1.0, 2.0, 3.0]
    assert sizes({"w": [1, 2], "b": [1]}) == (1, 2)


@pytest.mark.parametrize("length", [2, 4])
def test_a_vector_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match="the model has 3") as caught:
        unflatten(np.zeros(length, np.float32), {"w": [3]})
    assert caught.value.code == "update.shape"


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        flatten({"w": np.array([np.nan])})
    assert caught.value.code == "update.not_finite"
