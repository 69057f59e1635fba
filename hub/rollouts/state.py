"""How a rollout stands, what is known about its devices, and what a tick wants done. Values only.

Rules: everything on which a decision hangs is a whole number. Time inside a rollout is *engine time*: seconds that
went by while the hub ticked (`EngineClock.elapsed_s`), so that a clock that jumps neither ends a bake time nor makes a
device silent. Progress is what is stored after each tick, in the transaction that carries out the actions; the number
`revision` lets only one of two hubs win. Values of the enums are stored and shown, and never change their meaning.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

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


class DeviceState(StrEnum):
    """Where one device of a rollout stands; each member is in exactly one of these."""

    WAITING = "waiting"
    """Not assigned yet."""
    ASSIGNED = "assigned"
    """Assigned; the device has not spoken about it."""
    DOWNLOADING = "downloading"
    STAGED = "staged"
    """Assigned with mode `hold`, verified and staged; or with mode `live`, and its window is closed."""
    INSTALLING = "installing"
    """Verifying, probing, activating, on probation."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Refused or failed before it served."""
    REVERTED = "reverted"
    """Served it and went back to the version before by itself."""
    ROLLING_BACK = "rolling_back"
    """Assigned its own previous version; not confirmed."""
    ROLLED_BACK = "rolled_back"
    WITHDRAWN = "withdrawn"
    """The assignment was taken back; also at a roll-back, when there is no previous version to return to."""
    SUPERSEDED = "superseded"
    """A newer rollout of the model, or a person, assigned something else."""
    SKIPPED = "skipped"
    """Cannot get it: revoked, incompatible, decommissioned."""


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


# --- what is known ---------------------------------------------------------------------------------------------------
class GroupCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Devices of one group: one number for each `DeviceState`, then parts of those numbers.

    held: part of `waiting` that must not be assigned now (a rollout that outranks this one has the device).
    waiting_by_zone: the others of `waiting` by IANA zone, only where a window is in the device's zone and zones are
    known; empty: unknown. starting: part of `assigned`, given within the last `START_GRACE_S`. unreached: part of
    `assigned`, given longer than observe_s ago. silent: part of `downloading`, `staged` (mode live) and `installing`
    without a change for longer than observe_s. retrying: part of those under way that had failed before (attempts
    above 1). retry_due: part of `failed` with attempts left whose back-off is over. vanished: part of `succeeded` not
    heard from at all for longer than observe_s since then.
    """

    waiting: int = 0
    assigned: int = 0
    downloading: int = 0
    staged: int = 0
    installing: int = 0
    succeeded: int = 0
    failed: int = 0
    reverted: int = 0
    rolling_back: int = 0
    rolled_back: int = 0
    withdrawn: int = 0
    superseded: int = 0
    skipped: int = 0
    held: int = 0
    waiting_by_zone: dict[str, int] = {}
    starting: int = 0
    unreached: int = 0
    silent: int = 0
    retrying: int = 0
    retry_due: int = 0
    vanished: int = 0

    @property
    def under_way(self) -> int:
        """Assigned and not ended."""
        return self.assigned + self.downloading + self.staged + self.installing

    @property
    def exposed(self) -> int:
        """Devices on which the version was, is or may soon be."""
        return self.under_way + self.succeeded + self.failed + self.reverted

    @property
    def members(self) -> int:
        """Those on whom the group is judged: not superseded, skipped, held or taken back."""
        return self.waiting - self.held + self.exposed


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """`numerator / denominator` over `n` samples. For a share both denominator and n are the number of trials."""

    numerator: int
    denominator: int
    n: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for one gate (its place in the plan) over its window; `profile` "" is the whole fleet."""

    gate_no: int
    profile: str = ""
    candidate: Measure
    control: Measure | None = None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a tick may know: one `GroupCounts` for each group of the plan, in its order, and the evidence."""

    groups: tuple[GroupCounts, ...]
    evidence: tuple[Evidence, ...] = ()


# --- how it stands ---------------------------------------------------------------------------------------------------
class EngineClock(msgspec.Struct, frozen=True, kw_only=True):
    """`wall_s`: the wall clock at the last tick, seconds since 1970. `elapsed_s`: engine time."""

    wall_s: int = 0
    elapsed_s: int = 0


class GroupProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Times are engine time. `approved`: a person let what it waits for happen."""

    status: GroupStatus = GroupStatus.WAITING
    started_s: int | None = None
    baking_since_s: int | None = None
    ended_s: int | None = None
    approved: bool = False
    switched: bool = False
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

    `returning`: the groups that a roll-back covers. `waits_for`: why nothing is being assigned now, for people.
    """

    revision: int = 0
    status: Status = Status.PLANNED
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


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, tag="withdraw"):
    """Take the assignment back from every device of a group that is under way: to its previous version, if any."""

    group_no: int


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
    FINISHED = "rollout_finished"
    CLOCK_MOVED = "clock_moved"
    STALLED = "group_stalled"
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
    """One request. scope and group_no: only for a roll-back; None: all groups that were started."""

    kind: CommandKind
    group_no: int | None = None
    by: str = ""
    note: str = ""
