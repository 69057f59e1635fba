"""From a plan's targets and groups to conditions on devices, and who of them cannot run the version."""

from __future__ import annotations

import msgspec

from hub.deployments.compatibility import Compatibility
from hub.filters.language import parse_filter
from hub.filters.service import DeviceFilters
from hub.rollouts.plan import DEVICE_ZONE, Group, Plan, Targets
from hub.store import registry
from hub.store.database import Connection
from hub.store.deployments import profiles_of
from hub.store.device_filter import Condition
from hub.store.filter_nodes import Both, Comparison, Either, Node
from hub.store.rollout_members import Membership, both, listed
from shared.bundle.manifest import Manifest

__all__ = ["Memberships", "is_volatile"]

_STEADY = frozenset({"id", "profile", "status", "tag", "hardware_id"}) | frozenset(
    {"agent_version", "runtime", "runtime_version", "arch", "os", "python"}
    | {"cpu_count", "memory_bytes", "storage_bytes"}
)
"""Fields that change only when the device enrols, is tagged or revoked, or sends its inventory."""


class Memberships:
    """Compiles plans. Conditions hold for one transaction: they have the time and the saved groups put in."""

    def __init__(self, filters: DeviceFilters, compatibility: Compatibility) -> None:
        self._filters = filters
        self._compatibility = compatibility

    def of(self, connection: Connection, plan: Plan, among: Condition | None = None) -> Membership:
        """The conditions of a plan; `among`: only these devices will be asked about. Errors `filter.*`, `group.*`."""
        targets = self._targets(connection, plan.targets)
        manifest = msgspec.json.decode(
            registry.get_version(connection, plan.model, plan.version).manifest, type=Manifest
        )
        asked = targets if among is None else both(among, targets)
        return Membership(
            model=plan.model,
            targets=targets,
            groups=tuple(self._chosen(connection, group) for group in plan.groups),
            unfit=self._compatibility.unfit(profiles_of(connection, asked), manifest.requirements),
            zoned=plan.window is not None and plan.window.timezone == DEVICE_ZONE,
            open_to_new=plan.allow_new_devices,
            slow=plan.rate is not None or plan.max_concurrent_downloads is not None,
        )

    def _targets(self, connection: Connection, targets: Targets) -> Condition:
        if targets.devices is not None:
            return listed(connection, targets.devices)
        if targets.group is not None:
            return self._filters.condition_of(connection, targets.group)
        return self._filters.condition(connection, targets.filter or "all")

    def _chosen(self, connection: Connection, group: Group) -> Condition | None:
        if group.devices is not None:
            return listed(connection, group.devices)
        if group.filter is not None:
            return self._filters.condition(connection, group.filter)
        return None


def is_volatile(plan: Plan) -> bool:
    """Whether devices may come to belong to it without being changed by anybody: by what they report, or in time."""
    if plan.targets.devices is not None:
        return False
    return plan.targets.group is not None or not _fields(parse_filter(plan.targets.filter or "all")) <= _STEADY


def _fields(node: Node) -> set[str]:
    match node:
        case Both(parts) | Either(parts):
            return {field for part in parts for field in _fields(part)}
        case Comparison(field=field):
            return {field}
        case _:
            return set()
