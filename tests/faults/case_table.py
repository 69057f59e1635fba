"""The table of cases: what becomes of an installation in each state when each trouble comes. Nothing else, no code.

Version 1 is committed and version 2 is being installed (`newer assignment`: then version 3). A row gives the states
from the trouble on, as they are journalled and told to the hub, and the version that serves in the end. At rest, and
when the power goes before the report, the state itself is not told again. An error is: the identity is gone (before
and while downloading), the downloaded file or the slot is damaged, predictions are too slow (on probation), and at
rest the active slot is found damaged at the next start. What is held waits for a window, which opens with the trouble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.ota.machine import State
from tests.faults.troubles import Trouble

__all__ = ["CASES", "Row"]


@dataclass(frozen=True)
class Row:
    """The chain of states and the version that serves afterwards; 0 is none."""

    chain: tuple[str, ...]
    serves: int


WAY = ("assigned", "downloading", "verifying", "staged", "probing", "activating", "probation", "committed")
BACK = ("rolling_back", "rolled_back")
ONWARD = {state: Row(WAY[WAY.index(state) :], 2) for state in WAY}
"""It goes on as if nothing had happened."""
GIVEN_UP = {state: Row((state, *BACK), 1) for state in WAY}
AGAIN = {state: Row((state, *WAY), 2) for state in WAY}
"""It begins again from the start."""
SUPERSEDED = {state: Row((state, *BACK, *WAY), 3) for state in WAY}
STAYS = {version: Row((), version) for version in (0, 1, 2)}
NEXT = Row(WAY, 3)
HELD = Row(("held", *WAY[WAY.index("activating") :]), 2)

CASES: Mapping[tuple[State, Trouble], Row] = {
    (State.IDLE, Trouble.ERROR): STAYS[0],
    (State.IDLE, Trouble.RESTART): STAYS[0],
    (State.IDLE, Trouble.DISK_FULL): STAYS[0],
    (State.IDLE, Trouble.HUB_GONE): STAYS[0],
    (State.IDLE, Trouble.CANCEL): STAYS[0],
    (State.IDLE, Trouble.NEWER): NEXT,
    (State.ASSIGNED, Trouble.ERROR): Row(("assigned", "downloading", *BACK), 1),
    (State.ASSIGNED, Trouble.RESTART): ONWARD["assigned"],
    (State.ASSIGNED, Trouble.DISK_FULL): ONWARD["assigned"],
    (State.ASSIGNED, Trouble.HUB_GONE): Row(("assigned", "downloading", "assigned", "downloading", *WAY), 2),
    (State.ASSIGNED, Trouble.CANCEL): GIVEN_UP["assigned"],
    (State.ASSIGNED, Trouble.NEWER): SUPERSEDED["assigned"],
    (State.DOWNLOADING, Trouble.ERROR): GIVEN_UP["downloading"],
    (State.DOWNLOADING, Trouble.RESTART): ONWARD["downloading"],
    (State.DOWNLOADING, Trouble.DISK_FULL): AGAIN["downloading"],
    (State.DOWNLOADING, Trouble.HUB_GONE): Row(("downloading", "assigned", "downloading", *WAY), 2),
    (State.DOWNLOADING, Trouble.CANCEL): GIVEN_UP["downloading"],
    (State.DOWNLOADING, Trouble.NEWER): SUPERSEDED["downloading"],
    (State.VERIFYING, Trouble.ERROR): AGAIN["verifying"],
    (State.VERIFYING, Trouble.RESTART): ONWARD["verifying"],
    (State.VERIFYING, Trouble.DISK_FULL): AGAIN["verifying"],
    (State.VERIFYING, Trouble.HUB_GONE): ONWARD["verifying"],
    (State.VERIFYING, Trouble.CANCEL): GIVEN_UP["verifying"],
    (State.VERIFYING, Trouble.NEWER): SUPERSEDED["verifying"],
    (State.STAGED, Trouble.ERROR): AGAIN["staged"],
    (State.STAGED, Trouble.RESTART): ONWARD["staged"],
    (State.STAGED, Trouble.DISK_FULL): ONWARD["staged"],
    (State.STAGED, Trouble.HUB_GONE): ONWARD["staged"],
    (State.STAGED, Trouble.CANCEL): GIVEN_UP["staged"],
    (State.STAGED, Trouble.NEWER): SUPERSEDED["staged"],
    (State.PROBING, Trouble.ERROR): GIVEN_UP["probing"],
    (State.PROBING, Trouble.RESTART): ONWARD["probing"],
    (State.PROBING, Trouble.DISK_FULL): ONWARD["probing"],
    (State.PROBING, Trouble.HUB_GONE): ONWARD["probing"],
    (State.PROBING, Trouble.CANCEL): GIVEN_UP["probing"],
    (State.PROBING, Trouble.NEWER): SUPERSEDED["probing"],
    (State.HELD, Trouble.ERROR): Row(("held", *WAY), 2),
    (State.HELD, Trouble.RESTART): HELD,
    (State.HELD, Trouble.DISK_FULL): HELD,
    (State.HELD, Trouble.HUB_GONE): HELD,
    (State.HELD, Trouble.CANCEL): Row(("held", *BACK), 1),
    (State.HELD, Trouble.NEWER): Row(("held", *BACK, *WAY), 3),
    (State.ACTIVATING, Trouble.ERROR): GIVEN_UP["activating"],
    (State.ACTIVATING, Trouble.RESTART): ONWARD["activating"],
    (State.ACTIVATING, Trouble.DISK_FULL): GIVEN_UP["activating"],
    (State.ACTIVATING, Trouble.HUB_GONE): ONWARD["activating"],
    (State.ACTIVATING, Trouble.CANCEL): ONWARD["activating"],
    (State.ACTIVATING, Trouble.NEWER): Row(("activating", "probation", *BACK, *WAY), 3),
    (State.PROBATION, Trouble.ERROR): GIVEN_UP["probation"],
    (State.PROBATION, Trouble.RESTART): ONWARD["probation"],
    (State.PROBATION, Trouble.DISK_FULL): ONWARD["probation"],
    (State.PROBATION, Trouble.HUB_GONE): ONWARD["probation"],
    (State.PROBATION, Trouble.CANCEL): ONWARD["probation"],
    (State.PROBATION, Trouble.NEWER): SUPERSEDED["probation"],
    (State.COMMITTED, Trouble.ERROR): Row(BACK, 1),
    (State.COMMITTED, Trouble.RESTART): STAYS[2],
    (State.COMMITTED, Trouble.DISK_FULL): STAYS[2],
    (State.COMMITTED, Trouble.HUB_GONE): STAYS[2],
    (State.COMMITTED, Trouble.CANCEL): STAYS[2],
    (State.COMMITTED, Trouble.NEWER): NEXT,
    (State.ROLLING_BACK, Trouble.ERROR): Row(("rolling_back", "inconsistent"), 1),  # from memory, until the next start
    (State.ROLLING_BACK, Trouble.RESTART): Row(BACK, 1),
    (State.ROLLING_BACK, Trouble.DISK_FULL): Row(BACK, 1),
    (State.ROLLING_BACK, Trouble.HUB_GONE): Row(BACK, 1),
    (State.ROLLING_BACK, Trouble.CANCEL): Row(BACK, 1),
    (State.ROLLING_BACK, Trouble.NEWER): Row((*BACK, *WAY), 3),
    (State.ROLLED_BACK, Trouble.ERROR): Row(("rolling_back", "inconsistent"), 0),
    (State.ROLLED_BACK, Trouble.RESTART): STAYS[1],
    (State.ROLLED_BACK, Trouble.DISK_FULL): STAYS[1],
    (State.ROLLED_BACK, Trouble.HUB_GONE): STAYS[1],
    (State.ROLLED_BACK, Trouble.CANCEL): STAYS[1],
    (State.ROLLED_BACK, Trouble.NEWER): NEXT,
    (State.INCONSISTENT, Trouble.ERROR): Row(("rolling_back", "inconsistent"), 0),
    (State.INCONSISTENT, Trouble.RESTART): Row(("rolling_back", "inconsistent"), 0),
    (State.INCONSISTENT, Trouble.DISK_FULL): STAYS[1],
    (State.INCONSISTENT, Trouble.HUB_GONE): STAYS[1],
    (State.INCONSISTENT, Trouble.CANCEL): STAYS[1],
    (State.INCONSISTENT, Trouble.NEWER): NEXT,
}
