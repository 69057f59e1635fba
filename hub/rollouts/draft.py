"""The outcome of a tick or a command while it is being worked out. Values only; nothing here has an effect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hub.rollouts.clockwork import Step
from hub.rollouts.counts import Counts
from hub.rollouts.plan import Plan
from hub.rollouts.state import (
    ENDED,
    Action,
    Change,
    ChangeKind,
    GroupProgress,
    GroupStatus,
    Progress,
    Reason,
    Rollout,
    Status,
    Tick,
)

__all__ = ["Draft"]


@dataclass(slots=True)
class Draft:
    """`progress` is replaced, never changed; `now_s` is the wall clock, `step` the engine's."""

    rollout: Rollout
    counts: Counts
    now_s: int
    step: Step
    progress: Progress
    actions: list[Action] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """What the rollout will do."""
        return self.rollout.plan

    @property
    def status(self) -> Status:
        """Where it stands by now."""
        return self.progress.status

    @property
    def elapsed_s(self) -> int:
        """Engine time."""
        return self.progress.clock.elapsed_s

    @property
    def may_expose(self) -> bool:
        """Whether the clock can be trusted enough for anything that brings the version to more devices."""
        return self.step.steady and self.step.sane

    def started(self) -> list[int]:
        """The groups that were started, in order."""
        return [no for no, group in enumerate(self.progress.groups) if group.status is not GroupStatus.WAITING]

    def set(self, **fields: Any) -> None:
        """Change fields of the progress."""
        self.progress = msgspec.structs.replace(self.progress, **fields)

    def set_group(self, group_no: int, **fields: Any) -> GroupProgress:
        """Change fields of one group's progress."""
        groups = list(self.progress.groups)
        groups[group_no] = msgspec.structs.replace(groups[group_no], **fields)
        self.set(groups=tuple(groups))
        return groups[group_no]

    def note(self, kind: ChangeKind, reason: Reason, group_no: int | None = None) -> None:
        """Record that something happened."""
        self.changes.append(Change(kind=kind, reason=reason, group_no=group_no))

    def enter(self, status: Status, kind: ChangeKind, reason: Reason, **fields: Any) -> None:
        """Change the rollout's status, and say why."""
        self.set(status=status, since_s=self.elapsed_s, reason=reason, waits_for=None, **fields)
        self.note(kind, reason)

    def outcome(self) -> Tick:
        """All of it; the revision is one higher exactly if the progress changed."""
        before = self.rollout.progress
        if self.progress == before:
            return Tick(progress=before, actions=tuple(self.actions), changes=tuple(self.changes))
        progress = msgspec.structs.replace(self.progress, revision=before.revision + 1)
        return Tick(progress=progress, actions=tuple(self.actions), changes=tuple(self.changes))

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED
