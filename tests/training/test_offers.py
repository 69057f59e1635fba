"""Offers wait in memory, few and for this device only; what is not one is refused and counted."""

from __future__ import annotations

from typing import Any

import pytest

from agent.training.offers import OfferIntake
from shared import limits
from shared.errors import SkerryError
from shared.wire.training import TrainingOffer, encode_offer
from tests.training.kit import Clock


def offer(run: int = 1, round_no: int = 1, **more: Any) -> TrainingOffer:
    """An offer to this device."""
    fields: dict[str, Any] = {
        "device_id": "dev1", "run": f"f-{run:012x}", "round_no": round_no, "model": "digits", "version": 1,
        "bundle_sha256": "0" * 64, "address": "127.0.0.1:1", "valid_s": 60.0, "task_s": 60.0,
    }  # fmt: skip
    return TrainingOffer(**(fields | more))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake(clock: Clock) -> OfferIntake:
    return OfferIntake("dev1", clock)


def waiting(intake: OfferIntake) -> list[tuple[str, int]]:
    found = []
    while (arrived := intake.next()) is not None:
        found.append((arrived.offer.run[-1], arrived.offer.round_no))
    return found


def test_the_last_that_came_of_each_run_waits(intake: OfferIntake) -> None:
    for one in (offer(1, 1), offer(2, 5), offer(1, 2)):
        intake.take(encode_offer(one))
    assert intake.came.is_set()
    assert waiting(intake) == [("2", 5), ("1", 2)]
    assert not intake.came.is_set()
    assert intake.dropped_count == 1


def test_a_run_that_was_interrupted_offers_its_round_again(intake: OfferIntake) -> None:
    for round_no in (7, 7, 6):
        intake.take(encode_offer(offer(1, round_no)))
        assert waiting(intake) == [("1", round_no)]


def test_an_offer_that_waited_too_long_is_none(intake: OfferIntake, clock: Clock) -> None:
    intake.take(encode_offer(offer(1, valid_s=10.0)))
    intake.take(encode_offer(offer(2, valid_s=60.0)))
    clock.at_s += 11.0
    assert waiting(intake) == [("2", 1)]


def test_what_is_no_offer_for_this_device_is_refused_and_counted(intake: OfferIntake) -> None:
    other = encode_offer(offer(device_id="dev2"))
    bad = [b"", b"\xc1", other[:-3], bytes(limits.MAX_TRAINING_OFFER_BYTES + 1), encode_offer(offer(run=1))[:20]]
    codes = []
    for data in (other, *bad):
        with pytest.raises(SkerryError) as caught:
            intake.take(data)
        codes.append(caught.value.code)
    assert codes == ["training.other_device", *["wire.malformed"] * 3, "wire.too_large", "wire.malformed"]
    assert intake.refused_count == 6
    assert waiting(intake) == []


def test_memory_is_bounded_whatever_comes(intake: OfferIntake) -> None:
    for number in range(1, 1000):
        intake.take(encode_offer(offer(number)))
    assert len(waiting(intake)) == 8
