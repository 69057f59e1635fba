"""A device holds the hub to what it promised, and what it adds to its update is what was ordered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from agent.training.orders import Order, parse_training
from agent.training.protection import Protection
from shared.errors import Untrusted
from shared.federated.codec import decode
from shared.federated.secagg.fixed import unpack, words
from shared.wire.training import Promise
from tests.federated.secure_kit import SCALE, Troop

SIZES = (3000, 1000)
DIFFERENCE = np.full(4000, 0.1, np.float32)  # its norm is 6.3


def _order(payload: bytes = b"", **config: Any) -> Order:
    config = {"round": 1, "epochs": 1, "learning_rate": 0.1, "scheme": "float32", **config}
    return Order(kind="train", weights=np.zeros(4000, np.float32), config=config, expires_s=0.0, payload=payload)


def _written(protection: Protection, order: Order, residual: Any = None) -> tuple[Any, Any]:
    wanted = parse_training(order.config)
    protection.check(order, wanted)
    return protection.write(DIFFERENCE, 50, {"loss": 1.0}, wanted, SIZES, residual)


def test_an_update_that_nobody_protects_goes_as_it_is_with_what_was_left_out_before() -> None:
    answer, left_out = _written(Protection(), _order(), np.full(4000, 0.05, np.float32))
    np.testing.assert_allclose(decode(answer.update, SIZES), 0.15, rtol=1e-6)
    assert (answer.examples, answer.metrics) == (50, {"loss": 1.0})
    assert not left_out.any()


def test_a_clipped_update_is_no_longer_than_its_clip_whatever_was_left_out_before() -> None:
    answer, left_out = _written(Protection(), _order(clip=1.0, scheme="int8"), np.full(4000, 9.0, np.float32))
    assert np.linalg.norm(decode(answer.update, SIZES).astype(np.float64)) <= 1.01
    assert not left_out.any()


def test_the_noise_is_as_ordered_and_another_each_time() -> None:
    protection = Protection()
    order = _order(clip=1.0, noise_multiplier=2.0)
    noises = []
    for _ in range(2):
        answer, _ = _written(protection, order)
        assert (answer.examples, answer.metrics) == (1, {})
        noises.append(decode(answer.update, SIZES) - 1 / np.sqrt(4000))
    assert all(kstest(noise, "norm", args=(0, 2.0)).pvalue > 1e-4 for noise in noises)
    assert abs(np.corrcoef(*noises)[0, 1]) < 0.1


def test_whether_an_update_was_within_the_clip_is_only_said_with_noise() -> None:
    answers = [_written(Protection(), _order(clip=1.0, noise_multiplier=1.0, count_noise=3.0))[0] for _ in range(200)]
    votes = np.array([answer.metrics["within"] for answer in answers])
    assert len(set(votes)) == 200
    assert votes.mean() == pytest.approx(-0.5, abs=0.9)
    assert votes.std() == pytest.approx(3.0, rel=0.2)


@pytest.mark.parametrize(
    ("promise", "config"),
    [
        (Promise(secure_aggregation=True), {}),
        (Promise(client_noise=1.0, clip=1.0), {"clip": 1.0}),
        (Promise(client_noise=1.0, clip=1.0), {"clip": 1.0, "noise_multiplier": 0.9}),
        (Promise(client_noise=1.0, clip=1.0), {"clip": 2.0, "noise_multiplier": 1.0}),
        (Promise(clip=1.0), {}),
    ],
)
def test_an_order_that_breaks_a_promise_is_refused_before_any_work(promise: Promise, config: dict[str, Any]) -> None:
    order = _order(**config)
    with pytest.raises(Untrusted) as caught:
        Protection(promise=promise).check(order, parse_training(order.config))
    assert caught.value.code == "training.promise"


def test_an_order_that_keeps_its_promise_is_taken() -> None:
    order = _order(clip=1.0, noise_multiplier=1.0)
    Protection(promise=Promise(client_noise=1.0, clip=1.0)).check(order, parse_training(order.config))


def _tasks() -> tuple[Troop, dict[str, bytes]]:
    troop = Troop(6)
    troop.adverts()
    troop.shares()
    return troop, troop.hub.tasks(SCALE)


def test_the_noise_of_a_sum_may_be_shared_among_those_that_must_be_in_it() -> None:
    troop, payloads = _tasks()
    promise = Promise(secure_aggregation=True, client_noise=1.0)
    protection = Protection(troop.sessions["d-000"], promise)
    shared = _order(payloads["d-000"], clip=1.0, noise_multiplier=1.0 / math.sqrt(5))  # 5 of 6 must be
    protection.check(shared, parse_training(shared.config))
    too_little = _order(payloads["d-000"], clip=1.0, noise_multiplier=1.0 / math.sqrt(6))
    with pytest.raises(Untrusted):
        protection.check(too_little, parse_training(too_little.config))


def test_a_masked_update_says_nothing_beside_itself_and_counts_in_the_sum() -> None:
    troop, payloads = _tasks()
    size = words(4000)
    for device_id, payload in payloads.items():
        answer, _ = _written(Protection(troop.sessions[device_id]), _order(payload, clip=100.0))
        assert (answer.examples, answer.metrics) == (1, {})
        troop.hub.masked(device_id, answer.update, size)
    troop.masked = dict.fromkeys(payloads, b"")
    troop.reveals()
    total = unpack(SCALE, troop.hub.total(size), 4000, 6)
    np.testing.assert_allclose(total.mean, 0.1, atol=1e-4)
    assert (total.weight, total.within) == (6 * 50, 3.0)
    assert total.metrics == {"loss": pytest.approx(1.0, abs=0.01)}


def test_a_device_without_a_session_refuses_secure_aggregation() -> None:
    _, payloads = _tasks()
    order = _order(payloads["d-000"])
    with pytest.raises(Untrusted):
        Protection().check(order, parse_training(order.config))
    with pytest.raises(Untrusted):
        Protection().answer(order)
