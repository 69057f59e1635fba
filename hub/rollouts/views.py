"""How a rollout stands, for those who watch it: groups with their numbers, gates with theirs, failing devices.

`changes` grows with whatever is to be seen, so who asks again with it learns by one look-up that nothing is new.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.rollouts.counts import GroupCounts
from hub.rollouts.engine import RolloutEngine
from hub.rollouts.explain import Explanation, ModelExplanation, explain
from hub.rollouts.plan import Group, Plan
from hub.rollouts.state import GateResult, GroupProgress, Progress
from hub.store import devices, rollout_views
from hub.store import rollouts as store
from hub.store.database import Database
from hub.store.page import PageRequest
from hub.store.rollout_views import DeviceRow, FailureRow
from hub.store.rollouts import EventRow, RolloutRow
from shared.clock import Clock
from shared.errors import NotFound

__all__ = ["GroupView", "RolloutView", "RolloutViews"]

_REASONS_COUNT = 20
_DEVICES_PER_REASON_COUNT = 5
_ROLLOUTS_COUNT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """One group: what was planned, how it stands, and its devices."""

    group_no: int
    plan: Group
    progress: GroupProgress
    counts: GroupCounts


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """All of a rollout at one moment."""

    row: RolloutRow
    groups: list[GroupView]
    failures: list[FailureRow]

    @property
    def plan(self) -> Plan:
        """What it will do."""
        return self.row.plan

    @property
    def progress(self) -> Progress:
        """How it stands."""
        return self.row.rollout.progress

    @property
    def gates(self) -> tuple[GateResult, ...]:
        """Each gate as it was judged last."""
        return self.progress.gates


class RolloutViews:
    """Reads rollouts."""

    def __init__(self, db: Database, clock: Clock, engine: RolloutEngine) -> None:
        self._db = db
        self._clock = clock
        self._engine = engine

    def changes(self, rollout_id: str) -> tuple[int, str]:
        """What grows with all that is to be seen, and the rollout's model; error `rollout.unknown`."""
        with self._db.read() as connection:
            found = rollout_views.changes_of(connection, rollout_id)
            if found is None:
                raise _unknown(rollout_id)
            return found

    def get(self, rollout_id: str) -> RolloutView:
        """How a rollout stands; error `rollout.unknown`."""
        with self._db.read() as connection:
            row = store.get_rollout(connection, rollout_id)
            counts = self._engine.known(connection, row, self._clock.now()).counts
            failures = rollout_views.failures(connection, row.rollout_no, _REASONS_COUNT, _DEVICES_PER_REASON_COUNT)
        groups = [
            GroupView(group_no=number, plan=group, progress=progress, counts=numbers)
            for number, (group, progress, numbers) in enumerate(
                zip(row.plan.groups, row.rollout.progress.groups, counts.groups, strict=True)
            )
        ]
        return RolloutView(row=row, groups=groups, failures=failures)

    def devices(
        self, rollout_id: str, page: PageRequest, state: str | None = None, group_no: int | None = None
    ) -> list[DeviceRow]:
        """Devices by id, one more than the page's limit; error `rollout.unknown`."""
        with self._db.read() as connection:
            row = store.get_rollout(connection, rollout_id)
            states = () if state is None else (state,)
            return rollout_views.page_devices(connection, row.rollout_no, page, states, group_no)

    def explain(self, device_id: str, model: str | None = None) -> Explanation:
        """Why a device has what it has, and what it waits for; of one model, or of all; `device.not_found`."""
        models: list[ModelExplanation] = []
        with self._db.read() as connection:
            if devices.find_device(connection, device_id) is None:
                raise NotFound(
                    "device.not_found", f"There is no device {device_id!r:.80}.", hint="See `skerry devices list`."
                )
            for found in rollout_views.standing(connection, device_id):
                if model is not None and found.model != model:
                    continue
                members = rollout_views.memberships(connection, device_id, found.model, _ROLLOUTS_COUNT)
                rollouts = {one.rollout_id: store.load_rollout(connection, one.rollout_no).rollout for one in members}
                models.append(explain(found, members, rollouts, self._clock.now()))
        return Explanation(device_id=device_id, models=models)

    def events(self, rollout_id: str, page: PageRequest) -> list[EventRow]:
        """What happened, newest first, one more than the page's limit; error `rollout.unknown`."""
        with self._db.read() as connection:
            row = store.get_rollout(connection, rollout_id)
            return store.list_events(connection, row.rollout_no, page)


def _unknown(rollout_id: str) -> NotFound:
    return NotFound(
        "rollout.unknown", f"There is no rollout {rollout_id!r:.60}.", hint="`skerry rollout list` shows them."
    )
