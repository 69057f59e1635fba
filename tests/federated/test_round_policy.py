"""Which updates are admitted, who is asked, and the asynchronous buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.federated.admission import Admitted, Demands, admit
from hub.federated.buffered import Buffer, add, staleness_weight
from hub.federated.rounds import levelled
from hub.federated.selection import QUARANTINE_REJECTIONS, Candidate, next_ask_s, select
from shared.errors import InvalidInput
from shared.federated.codec import Scheme, encode

SIZES = (4, 2)
DEMANDS = Demands(
    sizes=SIZES, max_norm=10.0, max_examples=100, metrics=frozenset({"loss"}), tasks=frozenset({"7", "8"})
)


def _update(value: float = 1.0) -> bytes:
    return encode(np.full(6, value, np.float32), SIZES, Scheme.FLOAT32)[0]


def _admit(**changes: Any) -> Admitted:
    reply: dict[str, Any] = {
        "demands": DEMANDS,
        "device_id": "cam-1",
        "task": "7",
        "update": _update(),
        "examples": 10,
        "metrics": {"loss": 0.5},
    }
    return admit(**(reply | changes))


def test_a_right_reply_is_admitted_and_its_weight_capped() -> None:
    admitted = _admit(examples=10**9)
    assert admitted.examples == 100
    np.testing.assert_allclose(admitted.difference, 1.0)
    assert admitted.metrics == {"loss": 0.5}


def test_no_device_outweighs_the_others_by_its_number_of_examples() -> None:
    updates = [_admit(device_id=name, examples=count) for name, count in (("a", 100), ("b", 20), ("c", 3))]
    assert [update.examples for update in levelled(updates, 0.5)] == [10, 10, 3]
    assert [update.examples for update in levelled(updates, 2.0)] == [40, 20, 3]
    assert [update.examples for update in levelled(updates, 0.001)] == [1, 1, 1]
    assert levelled([], 0.5) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"task": "9"}, "update.unasked"),
        ({"answered": frozenset({"7"})}, "update.repeated"),
        ({"examples": 0}, "update.examples"),
        ({"examples": -5}, "update.examples"),
        ({"examples": True}, "update.examples"),
        ({"examples": 2.5}, "update.examples"),
        ({"examples": "10"}, "update.examples"),
        ({"examples": None}, "update.examples"),
        ({"metrics": {"loss": float("nan")}}, "update.metrics"),
        ({"metrics": {"loss": "low"}}, "update.metrics"),
        ({"metrics": {"accuracy": 1.0}}, "update.metrics"),
        ({"update": b""}, "update.malformed"),
        ({"update": _update()[:-1]}, "update.shape"),
        ({"update": encode(np.zeros(7, np.float32), (7,), Scheme.FLOAT32)[0]}, "update.shape"),
        ({"update": b"\x01" + np.full(6, np.nan, "<f4").tobytes()}, "update.not_finite"),
        ({"update": _update(5.0)}, "update.norm"),
    ],
)
def test_a_wrong_reply_is_refused_with_its_reason(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _admit(**changes)
    assert caught.value.code == code


def _fleet(n: int, **common: Any) -> list[Candidate]:
    return [Candidate(device_id=f"d-{i:03}", samples=50, **common) for i in range(n)]


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32))
def test_more_are_asked_than_needed_and_never_twice(n: int, goal: int, seed: int) -> None:
    chosen = select(_fleet(n), goal, seed)
    assert len(chosen) == len(set(chosen)) == min(n, -(-goal * 13 // 10))
    assert chosen == select(reversed(_fleet(n)), goal, seed)


def test_everybody_gets_a_turn() -> None:
    asked = dict.fromkeys((c.device_id for c in _fleet(30)), 0)
    for seed in range(30):
        fleet = [Candidate(device_id=d, samples=50, asked=n) for d, n in asked.items()]
        for device_id in select(fleet, 5, seed):
            asked[device_id] += 1
    assert max(asked.values()) - min(asked.values()) <= 1


def test_a_small_group_is_not_crowded_out() -> None:
    fleet = [*_fleet(90, group="x86"), *(Candidate(device_id=f"pi-{i}", samples=50, group="pi") for i in range(5))]
    chosen = select(fleet, 10, 1)
    assert sum(device_id.startswith("pi-") for device_id in chosen) == 5


def test_who_has_too_little_or_was_refused_too_often_is_not_asked() -> None:
    few = Candidate(device_id="few", samples=3)
    bad = Candidate(device_id="bad", samples=50, rejected=QUARANTINE_REJECTIONS)
    good = Candidate(device_id="good", samples=50, rejected=QUARANTINE_REJECTIONS - 1)
    assert select([few, bad, good], 3, 0, min_samples=10) == ["good"]


@given(st.integers(1, 10**6), st.integers(1, 1000), st.floats(0, 0.999))
def test_pace_grows_with_the_fleet(devices: int, goal: int, lot: float) -> None:
    assert next_ask_s(devices, goal, 60.0, lot) >= 30.0
    assert next_ask_s(devices * 2, goal, 60.0, lot) >= next_ask_s(devices, goal, 60.0, lot)


def test_the_buffer_makes_a_step_of_the_weighted_mean() -> None:
    buffer = Buffer.begin(np.zeros(2, np.float32), step=3)
    buffer = add(buffer, np.array([1, 0], np.float32), 10, 3, goal=2)
    assert (buffer.step, buffer.updates) == (3, 1)
    buffer = add(buffer, np.array([0, 1], np.float32), 10, 0, goal=2)
    assert (buffer.step, buffer.updates) == (4, 0)
    stale = staleness_weight(3)
    np.testing.assert_allclose(buffer.model, [1 / (1 + stale), stale / (1 + stale)], rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "size", "code"), [(-30, 2, "update.stale"), (6, 2, "update.unasked"), (5, 3, "update.shape")]
)
def test_the_buffer_refuses_what_does_not_fit(step: int, size: int, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        add(Buffer.begin(np.zeros(2, np.float32), step=5), np.zeros(size, np.float32), 1, step, goal=2)
    assert caught.value.code == code
