"""A checkpoint gives back every bit, and one that is damaged or of another shape is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.standing import Roster, Standing
from shared import limits
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


def test_a_run_can_go_on_however_many_devices_have_come_and_gone() -> None:
    """The checkpoint holds as many standings as can be read again; quarantine outlasts what says nothing."""
    roster = Roster()
    most = limits.MAX_FEDERATED_DEVICES_COUNT
    for number in range(most + 50):
        roster.enrol(f"gone-{number:05d}", number, 20)
        roster.of(f"gone-{number:05d}").asked = 1
        roster.remove(f"gone-{number:05d}")
    for number in range(20):
        roster.enrol(f"here-{number}", number, 20)
        roster.of(f"here-{number}").asked = 1
    roster.of("gone-00049").rejected = 3
    roster.enrol("new", 7, 20)
    told = roster.standings()
    kept = write_checkpoint(_checkpoint(standings=told))
    again = Roster(read_checkpoint(kept).standings)
    assert len(told) == most
    assert "new" not in {one.device_id for one in told}, "it has not done anything yet"
    assert all(again.of(f"here-{number}").asked == 1 for number in range(20))
    assert again.of("gone-00049").rejected == 3
