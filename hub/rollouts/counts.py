"""What a tick may know about the devices of a rollout, as whole numbers, and the evidence for its gates. Values only.

Each member of a rollout is in exactly one `DeviceState`. The overlays of `GroupCounts` are parts of those numbers.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Counts", "DeviceState", "Evidence", "GroupCounts", "Measure"]


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


class GroupCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Devices of one group: one number for each `DeviceState`, then parts of those numbers.

    held: part of `waiting` that must not be assigned now (a rollout that outranks this one has the device).
    waiting_by_zone: the others of `waiting` by IANA zone, only where a window is in the device's zone and zones are
    known; empty: unknown. holding: part of `staged`, assigned with mode `hold`. starting: part of `assigned`, given
    within the last `START_GRACE_S`. unreached: part of `assigned`, given longer than observe_s ago. retrying: part of
    those under way that had failed before (attempts above 1). silent: part of `downloading`, `staged` (mode live) and
    `installing` without a change for longer than observe_s, without those that are `retrying`. retry_left: part of
    `failed` with attempts left. retry_due: part of `retry_left` whose back-off is over. vanished: part of `succeeded`
    not heard from at all for longer than observe_s.
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
    holding: int = 0
    starting: int = 0
    unreached: int = 0
    silent: int = 0
    retrying: int = 0
    retry_left: int = 0
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
    def assignable(self) -> int:
        """Devices that wait and may be assigned."""
        return max(0, self.waiting - self.held)

    @property
    def members(self) -> int:
        """Those on whom the group is judged: not superseded, skipped, held or taken back."""
        return self.assignable + self.exposed

    @property
    def errors(self) -> int:
        """Devices that count as failures: also those that went silent with it, and those that try once more."""
        return self.failed + self.reverted + self.silent + self.retrying


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
