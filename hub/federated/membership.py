"""The devices of a run as they are now: what the filter chooses, judged by what the hub knows of each.

One look serves the dry run and the run itself, so that what is shown is what is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.deployments.compatibility import Compatibility
from hub.federated.base import Base
from hub.federated.definition import RunDefinition
from hub.federated.eligibility import Needs, Seen, why_not
from hub.federated.evaluation import DeviceEvaluation, Evaluation, summarise
from hub.federated.forecast import Member
from hub.federated.protocol import Participant
from hub.federated.spending import device_bytes
from hub.filters.service import DeviceFilters
from hub.store import federated_devices, groups
from hub.store.database import Connection
from hub.store.federated_devices import CandidateRow
from hub.store.page import PageRequest
from shared import limits
from shared.clock import Clock
from shared.errors import SkerryError
from shared.profiles import Profile

__all__ = ["Judged", "RunMembers", "needs_of"]

_GROUPS_COUNT = 200  # of which an evaluation tells
_CHILD_BYTES = 110 * limits.MIB  # the training process with its libraries, before any model
_BYTES_PER_WEIGHT = 24  # weights, gradients, what was received, the difference, what rounding left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A device, and the code of why it could not take part now (empty: it could)."""

    row: CandidateRow
    profile: Profile | None
    code: str

    def member(self) -> Member:
        """As a forecast counts it."""
        link = None if self.profile is None else self.profile.link
        return Member(
            device_id=self.row.device_id,
            profile=self.row.profile,
            link_class="" if link is None else link.link_class,
            cost_per_mib=0.0 if link is None else link.cost_per_mib,
            samples=self.row.kept,
            code=self.code,
        )

    def participant(self) -> Participant | None:
        """As the worker knows it; nobody asks who has no samples, and who could not take part now has none for it."""
        if self.row.public_key is None:
            return None
        samples = 0 if self.code else self.row.kept
        return Participant(
            device_id=self.row.device_id,
            public_key=self.row.public_key,
            samples=samples,
            group=self.row.profile,
            cost_per_mib=0.0 if self.profile is None else self.profile.link.cost_per_mib,
        )


def needs_of(definition: RunDefinition, base: Base) -> Needs:
    """What one round asks of a device."""
    models = sum(entry.bytes for entry in base.manifest.files if entry.role in ("model", "head"))
    return Needs(
        version=base.version,
        seconds=float(definition.rounds.deadline_s),
        memory_bytes=_CHILD_BYTES + models + _BYTES_PER_WEIGHT * sum(base.sizes),
        bytes=sum(device_bytes(definition, base.sizes)),
        min_samples=definition.training.min_samples,
    )


class RunMembers:
    """Looks devices up and judges them. online_s: who was heard of within so many seconds is there."""

    def __init__(self, clock: Clock, filters: DeviceFilters, compatibility: Compatibility, online_s: float) -> None:
        self._clock = clock
        self._filters = filters
        self._compatibility = compatibility
        self._online_s = online_s

    def check_filter(self, connection: Connection, text: str) -> None:
        """Return if the filter can be used; errors `filter.*`."""
        self._filters.condition(connection, text)

    def slices(self, connection: Connection, asked: int, devices: Sequence[DeviceEvaluation]) -> Evaluation | None:
        """What devices measured, by their profiles and groups as these are now; None when nobody did."""
        ids = [device.device_id for device in devices]
        names = [row.name for row in groups.list_groups(connection, PageRequest(limit=_GROUPS_COUNT))]
        members = {
            name: groups.chosen_of(connection, self._filters.condition_of(connection, name), ids) for name in names
        }
        return summarise(asked, devices, federated_devices.profiles_of(connection, ids), members)

    def judge(self, connection: Connection, definition: RunDefinition, needs: Needs) -> list[Judged]:
        """The active devices that the filter chooses, by id, at most as many as a run can have; errors `filter.*`."""
        condition = self._filters.condition(connection, definition.filter)
        rows = federated_devices.candidates(
            connection, definition.model, condition, limits.MAX_FEDERATED_DEVICES_COUNT
        )
        return [self._judged(row, needs) for row in rows]

    def _judged(self, row: CandidateRow, needs: Needs) -> Judged:
        profile = self._profile(row.profile)
        since_s = self._clock.now() - self._online_s
        seen = Seen(
            online=row.last_seen_s is not None and row.last_seen_s >= since_s,
            has_key=row.public_key is not None,
            profile=profile,
            version=row.version,
            samples=row.kept,
        )
        return Judged(row=row, profile=profile, code=why_not(needs, seen))

    def _profile(self, name: str) -> Profile | None:
        try:
            return self._compatibility.profile(name)
        except SkerryError:
            return None  # told as a reason of its own
