"""How a rollout stands, what is known about its devices, and what a tick wants done. Values only.

Rules: everything on which a decision hangs is a whole number. Time inside a rollout is *engine time*: seconds that
went by while the hub ticked (`EngineClock.elapsed_s`), so that a clock that jumps neither ends a bake time nor makes a
device silent. Progress is what is stored after each tick, in the transaction that carries out the actions; the number
`revision` lets only one of two hubs win. Values of the enums are stored and shown, and never change their meaning.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hub.rollouts.counts import Counts, DeviceState, Evidence, GroupCounts, Measure
from hub.rollouts.plan import Mode, Plan

__all__ = [
    "ENDED",
    "Action",
    "Assign",
    "Change",
    "ChangeKind",
    "Command",
    "CommandKind",
    "Counts",
    "DeviceState",
    "EngineClock",
    "Evidence",
    "GateResult",
    "GroupCounts",
    "GroupProgress",
    "GroupStatus",
    "Measure",
    "Progress",
    "Reason",
    "Retry",
    "RollBack",
    "Rollout",
    "Status",
    "Switch",
    "Tick",
    "Verdict",
    "Withdraw",
    "fresh",
]


class Status(StrEnum):
    """Where the rollout stands."""

    PLANNED = "planned"
    """Created; its start time has not come."""
    RUNNING = "running"
    PAUSED = "paused"
    """Nothing is assigned; what is under way goes on. Resume, abort or roll back."""
    KEEPING = "keeping"
    """All groups passed; devices that join later still get the version."""
    ENDING = "ending"
    """Nothing more is assigned; what is under way may still end."""
    FINISHED = "finished"
    ABORTING = "aborting"
    """Being taken back from devices that have not finished; those that succeeded keep it."""
    ABORTED = "aborted"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


ENDED = frozenset({Status.FINISHED, Status.ABORTED, Status.ROLLED_BACK})
"""Nothing more will happen; such a rollout needs no tick."""


class GroupStatus(StrEnum):
    """Where one group stands."""

    WAITING = "waiting"
    PREPARING = "preparing"
    """Members stage the version beside the one that serves (blue-green)."""
    READY = "ready"
    """Enough members staged; a person lets them switch."""
    RUNNING = "running"
    BAKING = "baking"
    AWAITING_APPROVAL = "awaiting_approval"
    """Passed its bake time; a person lets the next group begin."""
    PASSED = "passed"
    FAILED = "failed"


class Verdict(StrEnum):
    """What evidence says about a demand."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why: a stable code for programs, a sentence for people, and the numbers behind it."""

    code: str
    message: str
    numbers: dict[str, int] = {}


# --- how it stands ---------------------------------------------------------------------------------------------------
class EngineClock(msgspec.Struct, frozen=True, kw_only=True):
    """`wall_s`: the wall clock at the last tick, seconds since 1970. `elapsed_s`: engine time.

    `jumped_s`: engine time at the last tick that found the wall clock set, or the hub away; None: never.
    """

    wall_s: int = 0
    elapsed_s: int = 0
    jumped_s: int | None = None


class GroupProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Times are engine time. `approved`: a person let it go on without the successes or samples that are missing.

    switched: its members, once they staged the version, may serve it. forgiven: errors up to a person's resume.
    """

    status: GroupStatus = GroupStatus.WAITING
    started_s: int | None = None
    baking_since_s: int | None = None
    ended_s: int | None = None
    approved: bool = False
    switched: bool = False
    forgiven: int = 0
    waits_for: Reason | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate judged once: the verdict, why, and the numbers. `profile` "" judges the whole fleet."""

    gate_no: int
    metric: str
    profile: str = ""
    verdict: Verdict
    reason: Reason


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a tick or a command changes. `credit`: devices that the rate allows now, in sixtieths.

    `since_s`: engine time at which the status began. `resume_to`: the status before a pause. `returning`: the groups
    that a roll-back covers. `waits_for`: why nothing is being assigned now, for people.
    """

    revision: int = 0
    status: Status = Status.PLANNED
    since_s: int = 0
    resume_to: Status | None = None
    clock: EngineClock = EngineClock()
    groups: tuple[GroupProgress, ...] = ()
    gates: tuple[GateResult, ...] = ()
    credit: int = 0
    returning: tuple[int, ...] = ()
    reason: Reason | None = None
    waits_for: Reason | None = None


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as the tick takes it. `created_s`: wall clock at its creation."""

    rollout_id: str
    created_s: int
    plan: Plan
    progress: Progress


def fresh(plan: Plan) -> Progress:
    """The progress of a rollout that was just created."""
    return Progress(groups=tuple(GroupProgress() for _ in plan.groups))


# --- what a tick wants done -------------------------------------------------------------------------------------------
class Assign(msgspec.Struct, frozen=True, kw_only=True, tag="assign"):
    """Give the version to at most `limit` devices of a group that are `waiting` and not held, by bucket.

    zones: only devices in these time zones; empty: any.
    """

    group_no: int
    limit: int
    mode: Mode
    zones: tuple[str, ...] = ()


class Switch(msgspec.Struct, frozen=True, kw_only=True, tag="switch"):
    """Assign the same version again with mode `live` to at most `limit` devices of a group that hold it (`staged`)."""

    group_no: int
    limit: int


class Retry(msgspec.Struct, frozen=True, kw_only=True, tag="retry"):
    """Assign the version again to at most `limit` devices of a group whose retry is due; attempts grow by one."""

    group_no: int
    limit: int
    mode: Mode


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, tag="withdraw"):
    """Take the assignment back from every device of a group that is under way: to its previous version, if any.

    also_succeeded: from those that succeeded too (the end of a shadow).
    """

    group_no: int
    also_succeeded: bool = False


class RollBack(msgspec.Struct, frozen=True, kw_only=True, tag="roll_back"):
    """Assign its own previous version to every device of a group in a state that counts as exposed.

    A device without a previous version has its assignment withdrawn.
    """

    group_no: int


Action = Assign | Switch | Retry | Withdraw | RollBack


class ChangeKind(StrEnum):
    """What happened, for the record and for those who watch."""

    STARTED = "rollout_started"
    PAUSED = "rollout_paused"
    RESUMED = "rollout_resumed"
    APPROVED = "group_approved"
    ABORTING = "rollout_aborting"
    ABORTED = "rollout_aborted"
    ROLLING_BACK = "rollout_rolling_back"
    ROLLED_BACK = "rollout_rolled_back"
    KEEPING = "rollout_keeping"
    ENDING = "rollout_ending"
    FINISHED = "rollout_finished"
    CLOCK_MOVED = "clock_moved"
    GROUP_STALLED = "group_stalled"
    GROUP_RESUMED = "group_resumed"
    GROUP_STARTED = "group_started"
    GROUP_PREPARED = "group_prepared"
    GROUP_SWITCHED = "group_switched"
    GROUP_BAKING = "group_baking"
    GROUP_AWAITS_APPROVAL = "group_awaits_approval"
    GROUP_PASSED = "group_passed"
    GROUP_FAILED = "group_failed"
    GATE_FAILED = "gate_failed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened at this tick or command."""

    kind: ChangeKind
    reason: Reason
    group_no: int | None = None


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: carry out `actions`, store `progress`, and record `changes`, in one transaction.

    `progress.revision` is one above the given one exactly if something changed.
    """

    progress: Progress
    actions: tuple[Action, ...] = ()
    changes: tuple[Change, ...] = ()


# --- what a person may say --------------------------------------------------------------------------------------------
class CommandKind(StrEnum):
    """What a person may ask of a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    ABORT = "abort"
    ROLL_BACK = "rollback"
    FINISH = "finish"
    """Stop keeping: devices that join later no longer get the version."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """One request. group_no: only for a roll-back; None: all groups that were started."""

    kind: CommandKind
    group_no: int | None = None
    by: str = ""
    note: str = ""
