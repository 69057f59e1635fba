"""The send window as a pure thing, and against a lossy hub with Hypothesis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.link.window import SendWindow
from agent.ota.backoff import Backoff

STALL = Backoff(base_s=10.0, cap_s=600.0)


def window(limit: int = 4) -> SendWindow:
    made = SendWindow(limit, STALL)
    made.restart(0)
    return made


def test_no_more_than_the_limit_is_under_way() -> None:
    sending = window()
    for seq in range(1, 5):
        assert sending.room > 0
        sending.sent(seq, 0.0, 0.0)
    assert sending.room == 0
    sending.confirmed(2, 1.0, 0.0)
    assert sending.room == 2
    assert sending.position == 4


def test_a_window_with_nothing_under_way_needs_no_timer() -> None:
    sending = window()
    deadlines = [sending.deadline_s]
    sending.sent(1, 0.0, 0.0)
    deadlines.append(sending.deadline_s)
    sending.confirmed(1, 1.0, 0.0)
    deadlines.append(sending.deadline_s)
    assert deadlines == [None, 5.0, None]


def test_a_stalled_window_goes_back_and_probes_with_one_message_ever_more_rarely() -> None:
    sending = window()
    for seq in range(1, 5):
        sending.sent(seq, 0.0, 0.0)
    sending.stalled(0)
    assert (sending.position, sending.room) == (0, 1)
    sending.sent(1, 100.0, 0.0)
    assert sending.room == 0
    assert sending.deadline_s == 110.0
    sending.stalled(0)
    sending.sent(1, 200.0, 0.0)
    assert sending.deadline_s == 220.0


def test_progress_opens_the_window_again() -> None:
    sending = window()
    sending.sent(1, 0.0, 0.0)
    sending.stalled(0)
    sending.sent(1, 10.0, 0.0)
    sending.confirmed(1, 11.0, 0.0)
    assert sending.room == 4


def test_a_hub_that_knows_more_than_was_sent_here_moves_the_window_forward() -> None:
    sending = window()
    sending.confirmed(7, 0.0, 0.0)
    assert sending.position == 7


@given(losses=st.lists(st.booleans(), max_size=200), total=st.integers(1, 60), limit=st.integers(1, 8))
def test_everything_arrives_in_order_however_much_is_lost(losses: list[bool], total: int, limit: int) -> None:
    sending = window(limit)
    hub, now, fate = 0, 0.0, iter(losses)
    for _ in range(10_000):
        if hub == total:
            break
        while sending.room and sending.position < total:
            seq = sending.position + 1
            sending.sent(seq, now, 0.5)
            if not next(fate, False) and seq == hub + 1:
                hub = seq
        if not next(fate, False):
            sending.confirmed(hub, now, 0.5)
        if sending.deadline_s is not None:
            now = sending.deadline_s
            sending.stalled(hub)
    assert hub == total


def test_a_hub_that_went_back_is_recognised_only_by_an_answer_to_each_of_several_questions() -> None:
    sending = window()
    sending.restart(10)
    for asked in range(3):
        for _ in range(5):  # late answers of before, all at once
            sending.answered_behind()
            assert not sending.hub_lost_its_place
        sending.sent(11, float(asked), 0.0)
        sending.stalled(10)
        assert not sending.hub_lost_its_place
    sending.answered_behind()
    assert sending.hub_lost_its_place
    sending.confirmed(11, 1.0, 0.0)
    assert not sending.hub_lost_its_place
