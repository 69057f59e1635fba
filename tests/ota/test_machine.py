"""The table of the install machine: complete, without dead ends, and true to the journal's strings."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ota.machine import (
    FRAGILE,
    IGNORED,
    MAX_FRAGILE_RESTARTS,
    MAX_STEPS,
    REST,
    TRANSITIONS,
    Event,
    State,
    accepts,
    advance,
    is_exhausted,
    parse_state,
)

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_either_a_transition_or_ignored(state: State, event: Event) -> None:
    assert ((state, event) in TRANSITIONS) != (event in IGNORED[state])
    assert advance(state, event) is TRANSITIONS.get((state, event), state)


def test_the_tables_name_nothing_else() -> None:
    assert set(TRANSITIONS) <= set(PAIRS)
    assert set(IGNORED) == set(State)


@pytest.mark.parametrize("state", State)
def test_every_state_accepts_a_restart(state: State) -> None:
    assert accepts(state, Event.RESTARTED)


@pytest.mark.parametrize("state", State)
def test_from_every_state_the_machine_can_come_to_rest(state: State) -> None:
    reached, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for event in (Event.SUCCEEDED, Event.FAILED):
            after = advance(here, event)
            if after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached & REST


@pytest.mark.parametrize("state", sorted(set(State) - REST - {State.ROLLING_BACK}))
def test_every_failure_of_work_leads_to_rolling_back(state: State) -> None:
    assert advance(state, Event.FAILED) is State.ROLLING_BACK
    assert advance(state, Event.EXHAUSTED) is State.ROLLING_BACK


@pytest.mark.parametrize("state", sorted(REST))
def test_every_state_of_rest_takes_the_next_assignment(state: State) -> None:
    assert advance(state, Event.ASSIGNED) is State.ASSIGNED


def test_the_way_of_a_good_version() -> None:
    state, seen = State.IDLE, []
    for event in [Event.ASSIGNED, *[Event.SUCCEEDED] * 7]:
        state = advance(state, event)
        seen.append(state.value)
    assert seen == [
        "assigned", "downloading", "verifying", "staged", "probing", "activating", "probation", "committed",
    ]  # fmt: skip


def test_an_unknown_journal_value_means_roll_back() -> None:
    assert parse_state("from-the-future") is State.ROLLING_BACK
    assert all(parse_state(state.value) is state for state in State)


@given(st.lists(st.sampled_from(list(Event)), max_size=200))
def test_nothing_leaves_a_committed_version_but_a_reason(events: list[Event]) -> None:
    reasons = {Event.ASSIGNED, Event.ROLLBACK_REQUESTED, Event.DAMAGED, Event.EXHAUSTED}
    state = State.COMMITTED
    for event in events:
        after = advance(state, event)
        if state is State.COMMITTED and after is not State.COMMITTED:
            assert event in reasons
        state = after


def test_the_loop_breaker_acts_on_too_many_steps_and_on_restarts_of_a_running_version() -> None:
    assert is_exhausted(State.DOWNLOADING, MAX_STEPS + 1, 0)
    assert not is_exhausted(State.DOWNLOADING, MAX_STEPS, MAX_FRAGILE_RESTARTS + 1)
    for state in FRAGILE:
        assert is_exhausted(state, 1, MAX_FRAGILE_RESTARTS + 1)
        assert not is_exhausted(state, 1, MAX_FRAGILE_RESTARTS)
    assert not is_exhausted(State.ROLLING_BACK, MAX_STEPS + 1, 99)
    assert not is_exhausted(State.IDLE, MAX_STEPS + 1, 99)
