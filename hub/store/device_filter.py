"""A parsed device filter as a condition in SQL, so that no filter ever walks over the devices in Python.

- A condition is true or false for each device, never NULL: a device without the value is among none of `==`, `=lt=`,
  `=ge=`, …, and `!=` and `=out=` are the exact opposites of `==` and `=in=`.
- It speaks of the row of `devices` in the query around it and of nothing else there, whatever that query joins.
- A pattern with `*`, and `=li=`, ignore the case of A-Z; an exact value does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, false, func, not_, or_, select, true
from sqlalchemy.sql import exists

from hub.store.expressions import ascii_lower, plain_number
from hub.store.filter_nodes import (
    FIELDS,
    Both,
    Comparison,
    Either,
    Everything,
    Kind,
    Moment,
    Node,
    Number,
    Operator,
    Pattern,
    Present,
    Value,
)
from hub.store.schema import assignments, device_group_members, device_models, device_status, device_tags, devices
from shared.software_version import sort_key

__all__ = ["Condition", "Surroundings", "device_condition", "device_ids", "group_members"]

Condition = ColumnElement[bool]
_Test = Callable[[ColumnElement[Any]], Condition]
_Source = Callable[[str, _Test], Condition]

_ORDER = (Operator.LT, Operator.LE, Operator.GT, Operator.GE)
_WORDS = (Kind.TEXT, Kind.TAG, Kind.RELEASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a filter is read in. Heard of since `online_since_s`: online. groups: the filter of each group that is
    named, directly or by another; None: a list of devices."""

    now_s: float
    online_since_s: float
    groups: Mapping[str, Node | None] = field(default_factory=dict)


def device_condition(node: Node, around: Surroundings) -> Condition:
    """The condition on `devices` that `node` stands for."""
    match node:
        case Everything():
            return devices.c.status == "active"
        case Both(parts):
            return and_(true(), *(device_condition(part, around) for part in parts))
        case Either(parts):
            return or_(false(), *(device_condition(part, around) for part in parts))
        case Comparison():
            positive = _holds(node, around)
            return not_(positive) if node.operator in (Operator.NE, Operator.OUT) else positive


def device_ids(ids: Sequence[str]) -> Condition:
    """Exactly these devices, whatever their status; at most some thousands at once."""
    return devices.c.device_id.in_(list(ids))


def group_members(name: str) -> Condition:
    """The devices of a group that is a list."""
    return _among(device_group_members, device_group_members.c.group_name == name)


# --- one comparison ---------------------------------------------------------------------------------------------------
def _holds(node: Comparison, around: Surroundings) -> Condition:
    """Whether one of the values fits, in one look at the device's row."""
    if node.field == "group":
        return or_(false(), *(_is_member(value, around) for value in node.values))
    if node.field == "online":
        return or_(false(), *(_is_online(value, around) for value in node.values))
    name = node.field
    if node.operator in _ORDER and FIELDS[name].kind is Kind.RELEASE:
        name += "_key"
    elif name in _TOTALS and not node.key:
        name = f"all {name}"
    source = _SOURCES[name]
    return source(node.key, lambda column: or_(false(), *(_test(node, value, column, around) for value in node.values)))


def _is_member(value: Value, around: Surroundings) -> Condition:
    if not isinstance(value, Pattern):
        return false()
    inner = around.groups[value.pieces[0]]
    return group_members(value.pieces[0]) if inner is None else device_condition(inner, around)


def _is_online(value: Value, around: Surroundings) -> Condition:
    heard = _among(device_status, device_status.c.last_seen_s >= around.online_since_s)
    online = and_(devices.c.status == "active", heard)
    return not_(online) if value == Number(0) else online


def _test(node: Comparison, value: Value, column: ColumnElement[Any], around: Surroundings) -> Condition:
    known: Condition = column.is_not(None)
    if FIELDS[node.field].kind in _WORDS and node.operator not in _ORDER:
        known = column != ""  # an empty text is no value
    match value:
        case Present():
            return and_(column.is_not(None), known)
        case Pattern() if node.operator in _ORDER:
            return and_(known, _compared(node.operator, column, sort_key(value.pieces[0])))
        case Pattern():
            return and_(column.is_not(None), known, _text(column, value, folded=node.operator is Operator.LIKE))
        case Number(number) if FIELDS[node.field].kind is Kind.TAG:
            found = plain_number(column)
            return and_(found.is_not(None), _compared(node.operator, found, float(number)))
        case Number(number):
            return and_(known, _compared(node.operator, column, number))
        case Moment(seconds, relative):
            moment = around.now_s + seconds if relative else float(seconds)
            return and_(known, _compared(node.operator, column, moment))


def _compared(operator: Operator, column: ColumnElement[Any], value: str | float | None) -> Condition:
    match operator:
        case Operator.LT:
            return column < value
        case Operator.LE:
            return column <= value
        case Operator.GT:
            return column > value
        case Operator.GE:
            return column >= value
        case _:
            return column == value


def _text(column: ColumnElement[str], value: Pattern, *, folded: bool) -> Condition:
    if len(value.pieces) == 1 and not folded:
        return column == value.pieces[0]
    return ascii_lower(column).like(_folded(value.like), escape="\\")


def _folded(text: str) -> str:
    return "".join(char.lower() if char.isascii() else char for char in text)


# --- where the fields stand -------------------------------------------------------------------------------------------
def _among(table: FromClause, *conditions: ColumnElement[bool]) -> Condition:
    """The device has a row in `table` for which the conditions hold."""
    return exists().where(table.c.device_id == devices.c.device_id, *conditions).correlate(devices)


def _own(column: ColumnElement[Any]) -> _Source:
    return lambda _key, test: test(column)


def _hot(column: ColumnElement[Any]) -> _Source:
    return lambda _key, test: _among(device_status, test(column))


def _model(table: FromClause, column: ColumnElement[Any]) -> _Source:
    return lambda key, test: _among(table, table.c.model == key, test(column))


def _tag(key: str, test: _Test) -> Condition:
    return _among(device_tags, device_tags.c.key == key, test(device_tags.c.value))


def _total(column: ColumnElement[Any]) -> _Source:
    total = (
        select(func.sum(column))
        .where(device_models.c.device_id == devices.c.device_id)
        .correlate(devices)
        .scalar_subquery()
    )
    return lambda _key, test: test(total)


_TOTALS = ("requests", "errors")
_OWN = {
    "id": "device_id",
    "enrolled": "enrolled_s",
    **{
        name: name
        for name in (
            "profile",
            "status",
            "hardware_id",
            "agent_version",
            "agent_version_key",
            "runtime",
            "runtime_version",
            "runtime_version_key",
            "arch",
            "os",
            "python",
            "python_key",
            "cpu_count",
            "memory_bytes",
            "storage_bytes",
        )
    },
}
_HOT = {
    "last_seen": "last_seen_s",
    **{name: name for name in ("disk_free_bytes", "rss_bytes", "cpu_percent", "outbox_count")},
}
_MODEL = {
    "version": "version",
    "previous": "previous_version",
    "target": "target_version",
    "state": "state",
    "reason": "reason_code",
    "requests": "requests",
    "errors": "errors",
    "latency_p99_us": "latency_p99_us",
}
_SOURCES: Mapping[str, _Source] = {
    **{name: _own(devices.c[column]) for name, column in _OWN.items()},
    **{name: _hot(device_status.c[column]) for name, column in _HOT.items()},
    **{name: _model(device_models, device_models.c[column]) for name, column in _MODEL.items()},
    **{f"all {name}": _total(device_models.c[name]) for name in _TOTALS},
    "assigned": _model(assignments, assignments.c.version),
    "tag": _tag,
}
