"""What a device tells of its link and its clock is measured, never guessed: copies and lost messages tell nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.meter import LinkMeter, LinkReadings

A, B = "a" * 16, "b" * 16


def meter() -> LinkMeter:
    made = LinkMeter()
    made.connected()
    made.begin(A)
    return made


def test_a_round_trip_and_a_clock_that_is_ahead_are_told_once() -> None:
    link = meter()
    link.sent(1, 10.0)
    link.confirmed(A, 1, 5000.0, 10.5, 5100.0)
    assert link.take(connected=True) == LinkReadings(way="mqtt", rtt_s=0.5, clock_ahead_s=99.75)
    assert link.take(connected=True) == LinkReadings(way="mqtt")


@given(
    ahead_s=st.floats(-1e6, 1e6),
    up_s=st.floats(0, 10),
    down_s=st.floats(0, 10),
)
def test_the_clock_is_known_to_half_of_the_round_trip_whichever_way_is_slow(
    ahead_s: float, up_s: float, down_s: float
) -> None:
    link = meter()
    link.sent(1, 100.0)
    hub_s = 2e6 + up_s
    link.confirmed(A, 1, hub_s, 100.0 + up_s + down_s, hub_s + down_s + ahead_s)
    read = link.take(connected=True)
    assert read.rtt_s is not None
    assert read.clock_ahead_s is not None
    assert abs(read.clock_ahead_s - ahead_s) <= read.rtt_s / 2 + 0.001


def test_of_several_round_trips_the_shortest_counts() -> None:
    link = meter()
    for seq, (rtt_s, wall_s) in enumerate([(4.0, 52.0), (0.2, 50.1), (8.0, 54.0)], 1):
        link.sent(seq, 10.0 * seq)
        link.confirmed(A, seq, 50.0, 10.0 * seq + rtt_s, wall_s)
    assert link.take(connected=True).rtt_s == 0.2


def test_a_message_that_is_sent_again_is_not_measured() -> None:
    link = meter()
    link.sent(1, 10.0)
    link.begin(A)  # the window gave it up, or the connection ended
    link.connected()
    link.sent(1, 20.0)
    link.confirmed(A, 1, 50.0, 20.001, 50.0)  # the answer to the first copy
    assert link.take(connected=True) == LinkReadings(way="mqtt", reconnects=1)
    link.sent(2, 30.0)
    link.confirmed(A, 2, 60.0, 30.1, 60.0)
    assert link.take(connected=True).rtt_s == pytest.approx(0.1)


def test_a_confirmation_of_earlier_messages_or_another_epoch_ends_no_round_trip() -> None:
    link = meter()
    link.sent(5, 10.0)
    link.confirmed(A, 4, 50.0, 10.1, 50.0)
    link.confirmed(B, 9, 50.0, 10.1, 50.0)
    assert link.take(connected=True).rtt_s is None
    link.begin(B)
    link.sent(1, 20.0)
    link.confirmed(B, 1, 50.0, 20.3, 50.0)
    assert link.take(connected=True).rtt_s == pytest.approx(0.3)


def test_an_older_hub_tells_no_time_so_only_the_round_trip_is_told() -> None:
    link = meter()
    link.sent(1, 10.0)
    link.confirmed(A, 1, None, 10.5, 5100.0)
    assert link.take(connected=True) == LinkReadings(way="mqtt", rtt_s=0.5)


def test_the_way_is_the_one_by_which_the_hub_was_reached() -> None:
    link = LinkMeter()
    assert link.take(connected=False) == LinkReadings(way="none")
    link.asked(0.4, 100.0, 100.2)
    assert link.take(connected=False) == LinkReadings(way="https", rtt_s=0.4, clock_ahead_s=0.0)
    link.asked(None, None, 100.0)
    assert link.take(connected=False) == LinkReadings(way="https")
    assert link.take(connected=False) == LinkReadings(way="none")


def test_the_first_connection_is_no_reconnection() -> None:
    link = LinkMeter()
    assert link.take(connected=False).reconnects == 0
    link.connected()
    assert link.take(connected=True).reconnects == 0
    link.connected()
    link.connected()
    assert link.take(connected=True).reconnects == 2
    assert link.take(connected=True).reconnects == 0
