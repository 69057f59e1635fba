"""Rollouts as rows: what was asked for, the plan, how it stands, and the record of what happened.

A tick saves its progress only if revision and changes are still what it has read, so that of two hubs one wins and
nothing is decided from counts that others have moved since. `changes` grows with whatever is to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, insert, select, update

from hub.rollouts.plan import Plan
from hub.rollouts.state import Progress, Rollout
from hub.store.page import PageRequest, after
from hub.store.repeated import Repeated
from hub.store.rollout_marks import ACTIVE_STATUSES
from hub.store.schema import rollout_events, rollout_groups, rollouts
from shared.errors import NotFound

__all__ = [
    "EventRow",
    "RolloutRow",
    "Summary",
    "active_numbers",
    "add_events",
    "bump",
    "bump_one",
    "find_rollout",
    "get_rollout",
    "insert_rollout",
    "list_events",
    "list_rollouts",
    "load_rollout",
    "outranking",
    "save_progress",
    "thresholds_of",
]

_PLAN = msgspec.json.Decoder(Plan)
_PROGRESS = msgspec.json.Decoder(Progress)
Mark = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """A rollout with what the store needs of it. marks: (engine time, wall time) pairs, oldest first."""

    rollout_no: int
    rollout: Rollout
    definition: str
    changes: int
    hash_a: int
    hash_b: int
    marks: tuple[Mark, ...]
    created_s: float
    created_by: str

    @property
    def rollout_id(self) -> str:
        """Its name."""
        return self.rollout.rollout_id

    @property
    def plan(self) -> Plan:
        """What it will do."""
        return self.rollout.plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A rollout in a list."""

    rollout_id: str
    model: str
    version: int
    status: str
    priority: int
    changes: int
    created_s: float
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One thing that happened; `numbers`: the evidence."""

    event_no: int
    at_s: float
    kind: str
    group_no: int | None
    code: str
    message: str
    numbers: Mapping[str, int]
    by: str


# --- writing ----------------------------------------------------------------------------------------------------------
def insert_rollout(connection: Connection, row: RolloutRow, thresholds: Sequence[int | None]) -> int:
    """Add a rollout and its groups; returns its number (that of `row` is not looked at)."""
    rollout = row.rollout
    values = {
        "rollout_id": rollout.rollout_id,
        "model": rollout.plan.model,
        "version": rollout.plan.version,
        "definition": row.definition,
        "plan": msgspec.json.encode(rollout.plan).decode(),
        "priority": rollout.plan.priority,
        "hash_a": row.hash_a,
        "hash_b": row.hash_b,
        "marks": msgspec.json.encode(row.marks).decode(),
        "changes": row.changes,
        "created_s": row.created_s,
        "created_by": row.created_by,
        **_progress_values(rollout.progress),
    }
    number: int = connection.execute(insert(rollouts).values(values).returning(rollouts.c.rollout_no)).scalar_one()
    groups = [
        {"rollout_no": number, "group_no": group_no, "name": group.name, "threshold": threshold}
        for group_no, (group, threshold) in enumerate(zip(rollout.plan.groups, thresholds, strict=True))
    ]
    connection.execute(insert(rollout_groups), groups)
    return number


def _progress_values(progress: Progress) -> dict[str, Any]:
    return {
        "progress": msgspec.json.encode(progress).decode(),
        "status": progress.status.value,
        "revision": progress.revision,
        "elapsed_e": progress.clock.elapsed_s,
    }


def save_progress(
    connection: Connection, read: RolloutRow, progress: Progress, marks: Sequence[Mark], *, seen: bool
) -> bool:
    """Save a tick's progress; False: somebody was faster, and nothing was written. seen: there is news to be seen."""
    saved = {
        **{f"new_{name}": value for name, value in _progress_values(progress).items()},
        "new_marks": msgspec.json.encode(tuple(marks)).decode(),
        "new_changes": read.changes + 1 if seen else read.changes,
        "of_rollout": read.rollout_no,
        "read_revision": read.rollout.progress.revision,
        "read_changes": read.changes,
        "read_elapsed": read.rollout.progress.clock.elapsed_s,
    }
    return _SAVE.run_one(connection, saved) == 1


def _saving(_: Any) -> Any:
    row = rollouts.c
    names = ("progress", "status", "revision", "elapsed_e", "marks", "changes")
    return (
        update(rollouts)
        .where(
            row.rollout_no == bindparam("of_rollout"),
            row.revision == bindparam("read_revision"),
            row.changes == bindparam("read_changes"),
            row.elapsed_e == bindparam("read_elapsed"),
        )
        .values({name: bindparam(f"new_{name}", type_=row[name].type) for name in names})
    )


_SAVE = Repeated(_saving)


def bump(connection: Connection, among: ColumnElement[bool]) -> None:
    """There is news to be seen of the rollouts in `among`."""
    connection.execute(update(rollouts).where(among).values(changes=rollouts.c.changes + 1))


def bump_one(connection: Connection, rollout_no: int) -> None:
    """There is news to be seen of a rollout."""
    bump(connection, rollouts.c.rollout_no == rollout_no)


def add_events(connection: Connection, rollout_no: int, events: Sequence[EventRow]) -> None:
    """Append to the record; the numbers of `events` are not looked at."""
    if not events:
        return
    last = select(func.coalesce(func.max(rollout_events.c.event_no), 0)).where(
        rollout_events.c.rollout_no == rollout_no
    )
    first = connection.execute(last).scalar_one() + 1
    rows = [
        {
            "rollout_no": rollout_no,
            "event_no": first + place,
            "at_s": event.at_s,
            "kind": event.kind,
            "group_no": event.group_no,
            "code": event.code[:64],
            "message": event.message[:500],
            "numbers": msgspec.json.encode(dict(event.numbers), order="sorted").decode(),
            "by": event.by,
        }
        for place, event in enumerate(events)
    ]
    connection.execute(insert(rollout_events), rows)


# --- reading ----------------------------------------------------------------------------------------------------------
def _rollout(row: Row[Any]) -> RolloutRow:
    return RolloutRow(
        rollout_no=row.rollout_no,
        rollout=Rollout(
            rollout_id=row.rollout_id,
            created_s=int(row.created_s),
            plan=_PLAN.decode(row.plan),
            progress=_PROGRESS.decode(row.progress),
        ),
        definition=row.definition,
        changes=row.changes,
        hash_a=row.hash_a,
        hash_b=row.hash_b,
        marks=tuple((engine, wall) for engine, wall in msgspec.json.decode(row.marks)),
        created_s=row.created_s,
        created_by=row.created_by,
    )


def active_numbers(connection: Connection) -> list[int]:
    """Rollouts that have not ended; those of high priority first, then the oldest."""
    query = (
        select(rollouts.c.rollout_no)
        .where(rollouts.c.status.in_(ACTIVE_STATUSES))
        .order_by(rollouts.c.priority.desc(), rollouts.c.rollout_no)
    )
    return list(connection.execute(query).scalars())


def load_rollout(connection: Connection, rollout_no: int) -> RolloutRow:
    """A rollout by its number."""
    return _rollout(connection.execute(select(rollouts).where(rollouts.c.rollout_no == rollout_no)).one())


def find_rollout(connection: Connection, rollout_id: str) -> RolloutRow | None:
    """A rollout by its name."""
    row = connection.execute(select(rollouts).where(rollouts.c.rollout_id == rollout_id)).one_or_none()
    return None if row is None else _rollout(row)


def get_rollout(connection: Connection, rollout_id: str) -> RolloutRow:
    """A rollout by its name, or `NotFound` (`rollout.unknown`)."""
    row = find_rollout(connection, rollout_id)
    if row is None:
        raise NotFound(
            "rollout.unknown", f"There is no rollout {rollout_id!r:.60}.", hint="`skerry rollout list` shows them."
        )
    return row


def _outranks(row: RolloutRow) -> ColumnElement[bool]:
    mine = (rollouts.c.priority == row.plan.priority) & (rollouts.c.rollout_no > row.rollout_no)
    return (rollouts.c.priority > row.plan.priority) | mine


def outranking(connection: Connection, row: RolloutRow, *, ended: bool = False) -> list[int]:
    """Rollouts of the same model that a device follows rather than this one; with `ended` ones, or without."""
    query = select(rollouts.c.rollout_no).where(rollouts.c.model == row.plan.model, _outranks(row))
    if not ended:
        query = query.where(rollouts.c.status.in_(ACTIVE_STATUSES))
    return list(connection.execute(query).scalars())


def thresholds_of(connection: Connection, rollout_no: int) -> list[int | None]:
    """Of each group, in order: buckets below belong to it or an earlier one; None: chosen otherwise."""
    query = select(rollout_groups.c.threshold).where(rollout_groups.c.rollout_no == rollout_no)
    return list(connection.execute(query.order_by(rollout_groups.c.group_no)).scalars())


def list_rollouts(
    connection: Connection,
    page: PageRequest,
    model: str | None = None,
    only: frozenset[str] | None = None,
    active: bool = False,
) -> list[Summary]:
    """Rollouts, newest first; of one model, or of the models of a token's scope; only those that have not ended."""
    order = (rollouts.c.created_s, rollouts.c.rollout_id)
    query: Select[Any] = select(*(rollouts.c[name] for name in Summary.__dataclass_fields__))
    query = query.where(*after(order, page, descending=True))
    if model is not None:
        query = query.where(rollouts.c.model == model)
    if only is not None:
        query = query.where(rollouts.c.model.in_(sorted(only)))
    if active:
        query = query.where(rollouts.c.status.in_(ACTIVE_STATUSES))
    query = query.order_by(*(column.desc() for column in order)).limit(page.fetch)
    return [Summary(**row._mapping) for row in connection.execute(query)]


def list_events(connection: Connection, rollout_no: int, page: PageRequest) -> list[EventRow]:
    """What happened, newest first; the key is the event's number."""
    query = select(*(rollout_events.c[name] for name in EventRow.__dataclass_fields__)).where(
        rollout_events.c.rollout_no == rollout_no, *after([rollout_events.c.event_no], page, descending=True)
    )
    rows = connection.execute(query.order_by(rollout_events.c.event_no.desc()).limit(page.fetch))
    return [EventRow(**{**row._mapping, "numbers": msgspec.json.decode(row.numbers)}) for row in rows]
