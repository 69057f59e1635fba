"""Saved groups: a name for a filter, whose members are whoever matches now, or for a list of devices.

- A group's filter may name other groups, but never itself, directly or by others.
- Nothing that is in use is deleted: not what another group names, nor what a rollout that goes on targets.
- Who joins or leaves a group that a rollout targets is looked at by that rollout at once: joining, it waits its turn;
  leaving before its turn, it gets nothing.
- Every change is in the audit log with the devices that joined and left by it; a dry run says the same beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from hub.audit.log import AuditLog
from hub.filters.expansion import check_expansion
from hub.filters.language import parse_filter, write_filter
from hub.filters.service import DeviceFilters
from hub.store import fleet
from hub.store import groups as store
from hub.store.database import Connection, Database
from hub.store.device_filter import Condition, device_ids
from hub.store.filter_nodes import Node, references
from hub.store.fleet import DeviceSummary
from hub.store.groups import GroupRow, Moves
from hub.store.page import PageRequest
from shared import ids, limits
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput, NotFound, TooLarge

__all__ = ["GroupChange", "GroupDetail", "GroupPlan", "GroupService", "Users"]

Users = Callable[[Connection, str], Sequence[str]]
"""The rollouts that go on and target a group by its name."""

_EXAMPLES_COUNT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """What a group is to be; None: as it is. `devices` replaces a list, `add` and `remove` change it."""

    filter: str | None = None
    devices: Collection[str] | None = None
    add: Collection[str] = ()
    remove: Collection[str] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What a change does, or would do. `joins`, `leaves`: some of the devices; `rollouts`: those that target it."""

    group: GroupRow
    moves: Moves
    joins: list[str]
    leaves: list[str]
    rollouts: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDetail:
    """A group, how many devices are in it now, which groups name it and which rollouts target it."""

    group: GroupRow
    devices: int
    revoked: int
    named_by: list[str]
    rollouts: list[str]


@dataclass(frozen=True, slots=True)
class _Body:
    """Who is in a group: a parsed filter, or a list (`node` None)."""

    node: Node | None
    members: frozenset[str]


def _no_rollouts(_connection: Connection, _name: str) -> Sequence[str]:
    return ()


class GroupService:
    """Keeps groups. `changed` is called after devices may have joined or left one."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        filters: DeviceFilters,
        users: Users = _no_rollouts,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._filters = filters
        self._users = users
        self._changed = changed

    # --- looking ------------------------------------------------------------------------------------------------------
    def condition_of(self, connection: Connection, name: str) -> Condition:
        """The condition on `devices` for being in a group now; error `group.not_found`."""
        return self._filters.condition_of(connection, name)

    def page(self, page: PageRequest) -> list[GroupRow]:
        """Groups by name; one more than the page's limit."""
        with self._db.read() as connection:
            return store.list_groups(connection, page)

    def get(self, name: str) -> GroupDetail:
        """One group with its counts; error `group.not_found`."""
        with self._db.read() as connection:
            group = store.get_group(connection, name)
            active, revoked = store.device_counts(connection, self.condition_of(connection, name))
            return GroupDetail(
                group=group,
                devices=active,
                revoked=revoked,
                named_by=store.named_by(connection, name),
                rollouts=self._rollouts(connection, name),
            )

    def devices(self, name: str, page: PageRequest) -> list[DeviceSummary]:
        """The devices in a group by id, revoked ones too; one more than the page's limit; `group.not_found`."""
        with self._db.read() as connection:
            return fleet.list_summaries(connection, self.condition_of(connection, name), page)

    def _rollouts(self, connection: Connection, name: str) -> list[str]:
        """The rollouts that target a group, or one whose filter names it, directly or by another."""
        named = [name, *store.naming(connection, name)]
        return sorted({rollout for group in named for rollout in self._users(connection, group)})

    # --- changing -----------------------------------------------------------------------------------------------------
    def create(self, name: str, wish: GroupChange, actor: str, *, dry_run: bool = False) -> GroupPlan:
        """Make a group, or only say what would be in it.

        Errors: `id.group`, `group.exists`, `group.content`, `group.description`, `group.too_many`,
        `group.too_many_devices`, `group.unknown_device`, `group.cycle`, `filter.*`.
        """
        if (wish.filter is None) == (wish.devices is None) or wish.add or wish.remove:
            raise InvalidInput("group.content", "A group has either a filter or a list of devices.")
        now_s = self._clock.now()
        row = GroupRow(
            name=ids.parse_group_name(name),
            filter=None if wish.filter is None else write_filter(parse_filter(wish.filter)),
            description=_checked_description(wish.description or ""),
            created_s=now_s,
            created_by=actor,
            changed_s=now_s,
            changed_by=actor,
        )

        def act(connection: Connection) -> GroupPlan:
            if store.find_group(connection, name) is not None:
                raise Conflict("group.exists", f"There is a group {name} already.", hint="Use `skerry groups update`.")
            if store.count_groups(connection) >= limits.MAX_GROUPS_COUNT:
                raise Conflict("group.too_many", f"A hub has at most {limits.MAX_GROUPS_COUNT} groups.")
            body = _Body(_parsed(row), frozenset(wish.devices or ()))
            plan = self._plan(connection, row, body, before=device_ids([]))
            if not dry_run:
                store.insert_group(connection, row)
                self._save_body(connection, name, body, frozenset())
                self._record(connection, "group.create", plan, actor)
            return plan

        return self._run(act, dry_run)

    def update(self, name: str, wish: GroupChange, actor: str, *, dry_run: bool = False) -> GroupPlan:
        """Change a group, or only say who would join and leave. Errors as `create`, and `group.not_found`."""

        def act(connection: Connection) -> GroupPlan:
            old = store.get_group(connection, name)
            row = self._changed_row(old, wish, actor)
            members = frozenset(store.members_of(connection, name)) if old.filter is None else frozenset()
            body = _Body(_parsed(row), _changed_members(members, wish) if row.filter is None else frozenset())
            before = self.condition_of(connection, name)
            plan = self._plan(connection, row, body, before)
            if not dry_run:
                if plan.rollouts:
                    store.mark_movers(connection, before, self._members(connection, body))
                store.update_group(connection, row)
                self._save_body(connection, name, body, members)
                self._record(connection, "group.update", plan, actor)
            return plan

        return self._run(act, dry_run)

    def delete(self, name: str, actor: str) -> None:
        """Take a group away; errors `group.not_found`, `group.in_use`."""
        with self._db.write() as connection:
            store.get_group(connection, name)
            groups, rollouts = store.named_by(connection, name), self._rollouts(connection, name)
            if groups or rollouts:
                raise Conflict(
                    "group.in_use",
                    f"The group {name} is in use by {', '.join([*groups, *rollouts][:10])}.",
                    hint="Change those groups, or end those rollouts, first.",
                    detail={"groups": groups, "rollouts": rollouts},
                )
            store.delete_group(connection, name)
            self._audit.append(connection, actor, "group.delete", name, {})

    def _run(self, act: Callable[[Connection], GroupPlan], dry_run: bool) -> GroupPlan:
        if dry_run:
            with self._db.read() as connection:
                return act(connection)
        with self._db.write() as connection:
            plan = act(connection)
        self._changed()
        return plan

    def _changed_row(self, old: GroupRow, wish: GroupChange, actor: str) -> GroupRow:
        about_list = wish.devices is not None or wish.add or wish.remove
        if (about_list and old.filter is not None) or (wish.filter is not None and old.filter is None):
            kind = "a list of devices" if old.filter is None else "a filter"
            raise InvalidInput("group.content", f"The group {old.name} has {kind}.", hint="Make another group.")
        return dataclasses.replace(
            old,
            filter=old.filter if wish.filter is None else write_filter(parse_filter(wish.filter)),
            description=old.description if wish.description is None else _checked_description(wish.description),
            changed_s=self._clock.now(),
            changed_by=actor,
        )

    def _plan(self, connection: Connection, row: GroupRow, body: _Body, before: Condition) -> GroupPlan:
        """Check what the group is to be, and count who moves."""
        if body.node is None:
            _check_members(connection, body.members)
        else:
            self._check_filter(connection, row.name, body.node)
        then = self._members(connection, body)
        return GroupPlan(
            group=row,
            moves=store.moves(connection, before, then),
            joins=store.some_devices(connection, then & ~before, _EXAMPLES_COUNT),
            leaves=store.some_devices(connection, before & ~then, _EXAMPLES_COUNT),
            rollouts=self._rollouts(connection, row.name),
        )

    def _members(self, connection: Connection, body: _Body) -> Condition:
        if body.node is None:
            return device_ids(sorted(body.members))
        return self._filters.condition_for(connection, body.node)

    def _check_filter(self, connection: Connection, name: str, node: Node) -> None:
        """Of the group itself, and of every group that names it."""
        instead = {name: node}
        check_expansion(node, self._filters.definitions(connection, references(node), instead), name)
        for other in store.naming(connection, name):
            groups = self._filters.definitions(connection, [other], instead)
            outer = groups[other]
            if outer is not None:
                check_expansion(outer, groups, other)

    def _save_body(self, connection: Connection, name: str, body: _Body, before: frozenset[str]) -> None:
        store.set_references(connection, name, references(body.node) if body.node is not None else ())
        store.remove_members(connection, name, before - body.members)
        store.add_members(connection, name, body.members - before)

    def _record(self, connection: Connection, action: str, plan: GroupPlan, actor: str) -> None:
        detail = {
            "filter": plan.group.filter,
            "description": plan.group.description,
            "devices": plan.moves.devices,
            "joining": plan.moves.joining,
            "leaving": plan.moves.leaving,
        }
        self._audit.append(connection, actor, action, plan.group.name, detail)


def _parsed(row: GroupRow) -> Node | None:
    return None if row.filter is None else parse_filter(row.filter)


def _changed_members(members: frozenset[str], wish: GroupChange) -> frozenset[str]:
    start = members if wish.devices is None else frozenset(wish.devices)
    return (start | frozenset(wish.add)) - frozenset(wish.remove)


def _checked_description(text: str) -> str:
    if len(text) > limits.MAX_REASON_CHARS or not text.isprintable():
        raise InvalidInput(
            "group.description", f"A description has at most {limits.MAX_REASON_CHARS} printable characters."
        )
    return text


def _check_members(connection: Connection, members: frozenset[str]) -> None:
    if len(members) > limits.MAX_GROUP_DEVICES_COUNT:
        raise TooLarge(
            "group.too_many_devices",
            f"A list has at most {limits.MAX_GROUP_DEVICES_COUNT} devices.",
            hint="Tag the devices, and use a filter.",
        )
    unknown = sorted(members - store.known_devices(connection, members))
    if unknown:
        shown = ", ".join(name[:80] for name in unknown[:5])
        raise NotFound(
            "group.unknown_device",
            f"There is no device {shown}{' (and others)' if len(unknown) > 5 else ''}.",
            hint="See `skerry devices list`.",
            detail={"devices": unknown[:100]},
        )
