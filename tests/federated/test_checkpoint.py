"""A checkpoint gives back every bit, and one that is damaged or of another shape is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.standing import Standing
from shared.errors import InvalidInput


def _checkpoint(**changes: Any) -> Checkpoint:
    rng = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "run_id": "f-1",
        "definition": "a" * 64,
        "seed": 7,
        "round_no": 3,
        "weights": rng.normal(size=9).astype(np.float32),
        "memory": {"m_t": rng.normal(size=9).astype(np.float32), "v_t": rng.normal(size=9)},
        "standings": [Standing(device_id="cam-1", asked=3, rejected=1)],
    }
    return Checkpoint(**(fields | changes))


def test_every_bit_comes_back() -> None:
    wrote = _checkpoint()
    data = write_checkpoint(wrote)
    read = read_checkpoint(data)
    for name in ("run_id", "definition", "seed", "round_no", "standings"):
        assert getattr(read, name) == getattr(wrote, name)
    np.testing.assert_array_equal(read.weights, wrote.weights)
    for name, vector in wrote.memory.items():
        assert read.memory[name].dtype == vector.dtype
        np.testing.assert_array_equal(read.memory[name], vector)
    assert write_checkpoint(read) == data


@given(st.data())
def test_any_damage_is_refused(data: st.DataObject) -> None:
    whole = write_checkpoint(_checkpoint())
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from([whole[:at], whole + b"x", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]])
    )
    with pytest.raises(InvalidInput) as caught:
        read_checkpoint(damaged)
    assert caught.value.code == "federated.checkpoint"


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.array([np.nan], np.float32), "memory": {}},
        {"weights": np.zeros(3, np.float64), "memory": {}},
        {"weights": np.zeros(3, np.int32), "memory": {}},
        {"memory": {"m_t": np.zeros(2, np.float32)}},
        {"definition": "not a digest"},
        {"round_no": -1},
    ],
)
def test_a_checkpoint_that_could_not_be_resumed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_checkpoint(write_checkpoint(_checkpoint(**changes)))
    assert caught.value.code == "federated.checkpoint"
