"""Offers: made once more when nobody answers, never to who wants to be left alone."""

from __future__ import annotations

from hub.federated.offers import Heard, OfferBook, Offered


def heard(device_id: str, state: str, round_no: int = 1, retry_s: float = 0.0, at_s: float = 1.0) -> Heard:
    return Heard(device_id=device_id, round_no=round_no, state=state, retry_s=retry_s, at_s=at_s)


def test_an_offer_that_nobody_answered_is_made_once_more_while_it_holds() -> None:
    book = OfferBook(valid_s=40.0)
    assert book.ask(1, ["a", "b"], 100.0) == ([Offered("a", 1, 40.0), Offered("b", 1, 40.0)], [])
    assert not book.hear(heard("a", "accepted"))
    assert book.again(109.0) == []
    assert book.again(112.0) == [Offered("b", 1, 28.0)]
    assert book.again(120.0) == []


def test_an_offer_that_has_run_out_is_not_made_again() -> None:
    book = OfferBook(valid_s=40.0)
    book.ask(1, ["a"], 100.0)
    assert book.again(140.0) == []


def test_who_declined_is_not_asked_before_the_time_that_it_named() -> None:
    book = OfferBook(valid_s=40.0)
    book.ask(1, ["a"], 100.0)
    assert book.hear(heard("a", "declined", retry_s=600.0, at_s=101.0))
    assert book.resting(102.0) == {"a"}
    assert book.ask(2, ["a", "b"], 700.0) == ([Offered("b", 2, 40.0)], ["a"])
    assert book.ask(3, ["a"], 702.0) == ([Offered("a", 3, 40.0)], [])
    assert book.resting(702.0) == set()


def test_only_an_answer_to_the_newest_offer_counts() -> None:
    book = OfferBook(valid_s=40.0)
    book.ask(1, ["a"], 100.0)
    book.ask(2, ["a"], 130.0)
    assert not book.hear(heard("a", "failed", round_no=1))
    assert not book.hear(heard("stranger", "declined"))
    assert book.again(141.0) == [Offered("a", 2, 29.0)]
    assert book.hear(heard("a", "failed", round_no=2))


def test_who_says_nothing_to_two_offers_is_not_waited_for() -> None:
    book = OfferBook(valid_s=40.0)
    book.ask(1, ["a", "b"], 100.0)
    book.hear(heard("a", "accepted"))
    assert book.lost(131.0) == []  # it was not offered twice yet
    book.again(131.0)
    assert book.lost(131.0) == ["b"]
    assert book.lost(132.0) == []


def test_a_device_that_left_gets_no_second_offer() -> None:
    book = OfferBook(valid_s=40.0)
    book.ask(1, ["a"], 100.0)
    book.forget("a")
    assert book.again(115.0) == []
