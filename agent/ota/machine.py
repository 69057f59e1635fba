"""The install machine: a pure table `(state, event) -> state`.

The values of both enums are the strings in the journal and on the wire; they never change their meaning. Every pair
is either a transition or explicitly ignored, and a test holds the tables against each other. `RESTARTED` is accepted
by every state; a journal value that this agent does not know means: roll back.

The state names the work in hand. What each one does, and which event its outcome is, stands in `agent.ota.actions`:

    idle -> assigned -> downloading -> verifying -> staged -> probing -> activating -> probation -> committed
                                                              probing -> held -> activating
                 any failure -> rolling_back -> rolled_back | inconsistent

`held` is a version that is whole and tried but must not be active: its window is closed, or the hub wants it held back
or run as a shadow. What is active is untouched by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from shared.errors import InternalError

__all__ = [
    "BUSY",
    "FRAGILE",
    "IGNORED",
    "MAX_COMMITTED_RESTARTS",
    "MAX_FRAGILE_RESTARTS",
    "MAX_STEPS",
    "REST",
    "TRANSITIONS",
    "Event",
    "State",
    "accepts",
    "advance",
    "is_exhausted",
    "parse_state",
]


class State(StrEnum):
    """Where an installation stands."""

    IDLE = "idle"
    ASSIGNED = "assigned"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    PROBING = "probing"
    HELD = "held"
    ACTIVATING = "activating"
    PROBATION = "probation"
    COMMITTED = "committed"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    INCONSISTENT = "inconsistent"


class Event(StrEnum):
    """What happened."""

    ASSIGNED = "assigned"
    """A verified assignment with a newer counter came."""
    SUCCEEDED = "succeeded"
    """The work of the state is done."""
    FOUND = "found"
    """The assigned bundle is already on disk in a valid slot: no download is needed."""
    READY = "ready"
    """The version is whole and tried, and must not be activated now."""
    UNCHANGED = "unchanged"
    """The assigned bundle is the one that is active and proven."""
    INTERRUPTED = "interrupted"
    """The work failed, but the same work may succeed later; attempts are counted."""
    FAILED = "failed"
    """The work failed for good."""
    CANCELLED = "cancelled"
    """The assignment was withdrawn."""
    SUPERSEDED = "superseded"
    """A newer assignment for another bundle came."""
    ROLLBACK_REQUESTED = "rollback_requested"
    """A person at the device asked for the previous version."""
    DAMAGED = "damaged"
    """The active slot is not what was installed."""
    EXHAUSTED = "exhausted"
    """Too many steps or restarts: the loop breaker."""
    RESTARTED = "restarted"
    """The agent started and found this state in the journal."""


REST = frozenset({State.IDLE, State.COMMITTED, State.ROLLED_BACK, State.INCONSISTENT})
"""States with no work in hand: only a new event from outside leaves them."""

BUSY = frozenset({State.DOWNLOADING, State.VERIFYING, State.STAGED, State.PROBING, State.ACTIVATING})
"""States of which one model at a time may be in, because they cost memory, disk and processor."""

FRAGILE = frozenset({State.PROBING, State.ACTIVATING, State.PROBATION})
"""States in which the new version runs, so that a restart may be its fault."""

MAX_STEPS = 500
"""Transitions that one assignment may take, restarts included."""

MAX_FRAGILE_RESTARTS = 2
"""Restarts in a row that a fragile state may take; the next one rolls back."""

MAX_COMMITTED_RESTARTS = 5
"""Crashes in a row, each soon after the start, after which even a committed version gives way to the one before; also
while another one is held: that one does not run in the agent, so it is the one that serves that crashes."""

_GIVE_UP = {
    Event.FAILED: State.ROLLING_BACK,
    Event.CANCELLED: State.ROLLING_BACK,
    Event.SUPERSEDED: State.ROLLING_BACK,
    Event.EXHAUSTED: State.ROLLING_BACK,
}

_ROWS: Mapping[State, Mapping[Event, State]] = {
    State.IDLE: {
        Event.ASSIGNED: State.ASSIGNED,
        Event.DAMAGED: State.ROLLING_BACK,
        Event.RESTARTED: State.IDLE,
    },
    State.ASSIGNED: {
        Event.SUCCEEDED: State.DOWNLOADING,
        Event.FOUND: State.STAGED,
        Event.UNCHANGED: State.COMMITTED,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.RESTARTED: State.ASSIGNED,
        **_GIVE_UP,
    },
    State.DOWNLOADING: {
        Event.SUCCEEDED: State.VERIFYING,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.RESTARTED: State.DOWNLOADING,
        **_GIVE_UP,
    },
    State.VERIFYING: {
        Event.SUCCEEDED: State.STAGED,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.RESTARTED: State.VERIFYING,
        **_GIVE_UP,
    },
    State.STAGED: {
        Event.SUCCEEDED: State.PROBING,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.RESTARTED: State.STAGED,
        **_GIVE_UP,
    },
    State.PROBING: {
        Event.SUCCEEDED: State.ACTIVATING,
        Event.READY: State.HELD,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.RESTARTED: State.PROBING,
        **_GIVE_UP,
    },
    State.HELD: {
        Event.SUCCEEDED: State.ACTIVATING,
        Event.INTERRUPTED: State.ASSIGNED,
        Event.ROLLBACK_REQUESTED: State.ROLLING_BACK,
        Event.RESTARTED: State.HELD,
        **_GIVE_UP,
    },
    State.ACTIVATING: {
        Event.SUCCEEDED: State.PROBATION,
        Event.READY: State.HELD,
        Event.FAILED: State.ROLLING_BACK,
        Event.EXHAUSTED: State.ROLLING_BACK,
        Event.RESTARTED: State.ACTIVATING,
    },
    State.PROBATION: {
        Event.SUCCEEDED: State.COMMITTED,
        Event.FAILED: State.ROLLING_BACK,
        Event.SUPERSEDED: State.ROLLING_BACK,
        Event.ROLLBACK_REQUESTED: State.ROLLING_BACK,
        Event.DAMAGED: State.ROLLING_BACK,
        Event.EXHAUSTED: State.ROLLING_BACK,
        Event.RESTARTED: State.PROBATION,
    },
    State.COMMITTED: {
        Event.ASSIGNED: State.ASSIGNED,
        Event.ROLLBACK_REQUESTED: State.ROLLING_BACK,
        Event.DAMAGED: State.ROLLING_BACK,
        Event.EXHAUSTED: State.ROLLING_BACK,
        Event.RESTARTED: State.COMMITTED,
    },
    State.ROLLING_BACK: {
        Event.SUCCEEDED: State.ROLLED_BACK,
        Event.FAILED: State.INCONSISTENT,
        Event.RESTARTED: State.ROLLING_BACK,
    },
    State.ROLLED_BACK: {
        Event.ASSIGNED: State.ASSIGNED,
        Event.ROLLBACK_REQUESTED: State.ROLLING_BACK,
        Event.DAMAGED: State.ROLLING_BACK,
        Event.RESTARTED: State.ROLLED_BACK,
    },
    State.INCONSISTENT: {
        Event.ASSIGNED: State.ASSIGNED,
        Event.RESTARTED: State.ROLLING_BACK,
    },
}

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (state, event): target for state, row in _ROWS.items() for event, target in row.items()
}

_OUTCOMES = {Event.SUCCEEDED, Event.FOUND, Event.UNCHANGED, Event.READY, Event.INTERRUPTED, Event.FAILED}
_GIVING_UP = {Event.CANCELLED, Event.SUPERSEDED}
_NO_WORK = _OUTCOMES | _GIVING_UP
_IN_HAND = {Event.ASSIGNED, Event.ROLLBACK_REQUESTED, Event.DAMAGED}
_NOT_ASSIGNED = {Event.FOUND, Event.UNCHANGED}

IGNORED: Mapping[State, frozenset[Event]] = {
    # Nothing to give up, no work whose outcome could come, nothing to return to.
    State.IDLE: frozenset(_NO_WORK | {Event.ROLLBACK_REQUESTED, Event.EXHAUSTED}),
    # A newer assignment in mid-install comes as SUPERSEDED; the active version is untouched until ACTIVATING, so
    # there is nothing to return from, and a damaged active slot is repaired beside the install (`agent.ota.recovery`).
    State.ASSIGNED: frozenset(_IN_HAND | {Event.READY}),
    State.DOWNLOADING: frozenset(_IN_HAND | _NOT_ASSIGNED | {Event.READY}),
    State.VERIFYING: frozenset(_IN_HAND | _NOT_ASSIGNED | {Event.READY}),
    State.STAGED: frozenset(_IN_HAND | _NOT_ASSIGNED | {Event.READY}),
    State.PROBING: frozenset(_IN_HAND | _NOT_ASSIGNED),
    # What waits may wait for days, so a person may go back meanwhile; what waited is given up then.
    State.HELD: frozenset({Event.ASSIGNED, Event.DAMAGED, Event.READY} | _NOT_ASSIGNED),
    # The pointer is being moved: this ends by itself within moments, then the next state takes the event.
    State.ACTIVATING: frozenset(_IN_HAND | _NOT_ASSIGNED | _GIVING_UP | {Event.INTERRUPTED}),
    # From here on the version's health decides, not a withdrawal.
    State.PROBATION: frozenset({Event.ASSIGNED, Event.CANCELLED, Event.INTERRUPTED, Event.READY} | _NOT_ASSIGNED),
    State.COMMITTED: frozenset(_NO_WORK),
    # Returning is never given up half way.
    State.ROLLING_BACK: frozenset(
        _IN_HAND | _NOT_ASSIGNED | _GIVING_UP | {Event.INTERRUPTED, Event.EXHAUSTED, Event.READY}
    ),
    State.ROLLED_BACK: frozenset(_NO_WORK | {Event.EXHAUSTED}),
    State.INCONSISTENT: frozenset(_NO_WORK | {Event.ROLLBACK_REQUESTED, Event.DAMAGED, Event.EXHAUSTED}),
}


def accepts(state: State, event: Event) -> bool:
    """Whether `event` moves `state` (a move may lead to the same state, as a restart does)."""
    return (state, event) in TRANSITIONS


def advance(state: State, event: Event) -> State:
    """The state after `event`; an ignored event changes nothing; `InternalError` if the pair is in no table."""
    target = TRANSITIONS.get((state, event))
    if target is not None:
        return target
    if event in IGNORED[state]:
        return state
    raise InternalError("machine.undecided", f"The install machine has no rule for {event} in {state}.")


def parse_state(text: str) -> State:
    """The state that a journal names; one that this agent does not know means roll back."""
    try:
        return State(text)
    except ValueError:
        return State.ROLLING_BACK


def is_exhausted(state: State, steps: int, restarts: int) -> bool:
    """Whether the loop breaker must act: `restarts` counts those in a row in this state."""
    if not accepts(state, Event.EXHAUSTED):
        return False
    if state in (State.COMMITTED, State.HELD):
        return restarts > MAX_COMMITTED_RESTARTS
    return steps > MAX_STEPS or (state in FRAGILE and restarts > MAX_FRAGILE_RESTARTS)
