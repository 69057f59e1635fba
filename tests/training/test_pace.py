"""How often a node asks: quickly for the moment in which a task is expected, and hardly while it only stays."""

from __future__ import annotations

import pytest

from agent.training.pace import Pace


def asked(pace: Pace, now_s: float, until_s: float) -> int:
    """How many questions come in this time."""
    count = 0
    while now_s < until_s:
        now_s += pace.wait_s(now_s)
        count += 1
    return count


def test_a_task_that_is_there_at_once_is_found_at_once() -> None:
    assert Pace(0.0, 60.0).wait_s(0.0) == 0.1


def test_waiting_for_a_task_costs_about_a_question_a_second() -> None:
    assert asked(Pace(0.0, 60.0), 0.0, 60.0) < 75
    assert asked(Pace(0.0, 60.0), 0.0, 5.0) < 16


def test_staying_costs_next_to_nothing_and_the_next_offer_makes_it_quick_again() -> None:
    pace = Pace(0.0, 60.0)
    pace.answered()
    assert not pace.expects(1.0)
    assert asked(pace, 1.0, 61.0) == 6
    pace.expect(61.0, 30.0)
    assert pace.expects(61.0)
    assert pace.wait_s(61.0) == pytest.approx(0.1)
    assert not pace.expects(91.0)
