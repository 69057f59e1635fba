"""Saved groups of devices in the database, and how many devices a change of one moves. Counted in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, literal, not_, or_, select, update

from hub.store.device_filter import Condition
from hub.store.page import PageRequest, after
from hub.store.schema import (
    device_group_members,
    device_group_references,
    device_groups,
    devices,
    rollout_arrivals,
)
from shared.errors import NotFound

__all__ = [
    "GroupRow",
    "Moves",
    "add_members",
    "chosen_of",
    "count_groups",
    "delete_group",
    "device_counts",
    "find_filters",
    "find_group",
    "get_group",
    "insert_group",
    "known_devices",
    "list_groups",
    "mark_movers",
    "members_of",
    "moves",
    "named_by",
    "naming",
    "remove_members",
    "set_references",
    "some_devices",
    "update_group",
]

_CHUNK_COUNT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One group. `filter` None: a list of devices."""

    name: str
    filter: str | None
    description: str
    created_s: float
    created_by: str
    changed_s: float
    changed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Active devices of a group after a change, and how many of them join and leave with it."""

    devices: int
    joining: int
    leaving: int


# --- groups -----------------------------------------------------------------------------------------------------------
def find_group(connection: Connection, name: str) -> GroupRow | None:
    """The group with this name."""
    row = connection.execute(select(device_groups).where(device_groups.c.name == name)).one_or_none()
    return None if row is None else GroupRow(**row._mapping)


def get_group(connection: Connection, name: str) -> GroupRow:
    """A group, or `NotFound` (`group.not_found`)."""
    row = find_group(connection, name)
    if row is None:
        raise NotFound("group.not_found", f"There is no group {name!r:.60}.", hint="See `skerry groups list`.")
    return row


def list_groups(connection: Connection, page: PageRequest) -> list[GroupRow]:
    """Groups by name."""
    query = select(device_groups).where(*after([device_groups.c.name], page))
    rows = connection.execute(query.order_by(device_groups.c.name).limit(page.fetch))
    return [GroupRow(**row._mapping) for row in rows]


def count_groups(connection: Connection) -> int:
    """How many groups there are."""
    return connection.execute(select(func.count()).select_from(device_groups)).scalar_one()


def find_filters(connection: Connection, names: Sequence[str]) -> dict[str, str | None]:
    """The filters of those of these groups that there are; None: a list."""
    if not names:
        return {}
    query = select(device_groups.c.name, device_groups.c.filter).where(device_groups.c.name.in_(names))
    return {row.name: row.filter for row in connection.execute(query)}


def insert_group(connection: Connection, row: GroupRow) -> None:
    """Add a group."""
    connection.execute(insert(device_groups).values({name: getattr(row, name) for name in GroupRow.__slots__}))


def update_group(connection: Connection, row: GroupRow) -> None:
    """Store a changed group."""
    values = {name: getattr(row, name) for name in ("filter", "description", "changed_s", "changed_by")}
    connection.execute(update(device_groups).where(device_groups.c.name == row.name).values(values))


def delete_group(connection: Connection, name: str) -> None:
    """Take a group away; no other group may name it."""
    connection.execute(delete(device_group_members).where(device_group_members.c.group_name == name))
    connection.execute(delete(device_group_references).where(device_group_references.c.group_name == name))
    connection.execute(delete(device_groups).where(device_groups.c.name == name))


# --- groups that name groups ------------------------------------------------------------------------------------------
def set_references(connection: Connection, name: str, names: Collection[str]) -> None:
    """Note which groups the filter of `name` names."""
    table = device_group_references
    connection.execute(delete(table).where(table.c.group_name == name))
    if names:
        connection.execute(insert(table), [{"group_name": name, "names": other} for other in sorted(names)])


def named_by(connection: Connection, name: str) -> list[str]:
    """The groups whose filter names this one, by name."""
    table = device_group_references
    query = select(table.c.group_name).where(table.c.names == name).order_by(table.c.group_name)
    return list(connection.scalars(query))


def naming(connection: Connection, name: str) -> list[str]:
    """The groups whose filter names this one, directly or by another."""
    table = device_group_references
    found = select(table.c.group_name).where(table.c.names == name).cte("found", recursive=True)
    found = found.union(select(table.c.group_name).join(found, table.c.names == found.c.group_name))
    return list(connection.scalars(select(found.c.group_name).order_by(found.c.group_name)))


# --- lists of devices -------------------------------------------------------------------------------------------------
def members_of(connection: Connection, name: str) -> set[str]:
    """The devices of a group that is a list."""
    table = device_group_members
    return set(connection.scalars(select(table.c.device_id).where(table.c.group_name == name)))


def add_members(connection: Connection, name: str, device_ids: Collection[str]) -> None:
    """Put devices on the list that are not on it."""
    rows = [{"group_name": name, "device_id": device_id} for device_id in sorted(device_ids)]
    if rows:
        connection.execute(insert(device_group_members), rows)


def remove_members(connection: Connection, name: str, device_ids: Collection[str]) -> None:
    """Take devices off the list."""
    table = device_group_members
    for chunk in _chunks(device_ids):
        connection.execute(delete(table).where(table.c.group_name == name, table.c.device_id.in_(chunk)))


def known_devices(connection: Connection, device_ids: Collection[str]) -> set[str]:
    """Those of these devices that there are."""
    found: set[str] = set()
    for chunk in _chunks(device_ids):
        found.update(connection.scalars(select(devices.c.device_id).where(devices.c.device_id.in_(chunk))))
    return found


def _chunks(device_ids: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(device_ids)
    for start in range(0, len(ordered), _CHUNK_COUNT):
        yield ordered[start : start + _CHUNK_COUNT]


# --- counting ---------------------------------------------------------------------------------------------------------
def device_counts(connection: Connection, condition: Condition) -> tuple[int, int]:
    """How many active and how many revoked devices a condition chooses."""
    active = devices.c.status == "active"
    query = select(_count_if(active).label("active"), func.count().label("n")).select_from(devices).where(condition)
    row = connection.execute(query).one()
    return row.active, row.n - row.active


def moves(connection: Connection, before: Condition, then: Condition) -> Moves:
    """What becomes of the active devices when a group changes from `before` to `then`."""
    query = (
        select(
            _count_if(then).label("devices"),
            _count_if(and_(then, not_(before))).label("joining"),
            _count_if(and_(before, not_(then))).label("leaving"),
        )
        .select_from(devices)
        .where(devices.c.status == "active")
    )
    return Moves(**connection.execute(query).one()._mapping)


def mark_movers(connection: Connection, before: Condition, then: Condition) -> None:
    """Rollouts must look again at the devices that join or leave when a group changes; call it before it does."""
    moving = or_(and_(then, not_(before)), and_(before, not_(then)))
    rows = select(devices.c.device_id, literal(0)).where(moving).order_by(devices.c.device_id)
    connection.execute(insert(rollout_arrivals).from_select(["device_id", "claimed"], rows))


def some_devices(connection: Connection, condition: Condition, limit: int) -> list[str]:
    """The first active devices by id that a condition chooses."""
    query = select(devices.c.device_id).where(devices.c.status == "active", condition)
    return list(connection.scalars(query.order_by(devices.c.device_id).limit(limit)))


def chosen_of(connection: Connection, condition: Condition, device_ids: Collection[str]) -> set[str]:
    """Those of these devices that a condition chooses."""
    found: set[str] = set()
    for chunk in _chunks(device_ids):
        query = select(devices.c.device_id).where(devices.c.device_id.in_(chunk), condition)
        found.update(connection.scalars(query))
    return found


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
