"""A parsed device filter as a condition in SQL, so that no filter ever walks over the devices in Python.

A pattern with `*` ignores case (databases disagree about LIKE, so it is said here); an exact value does not.
`!=` and `=out=` are the exact opposites of `==` and `=in=`: a device without a tag is among `tag.site!=north`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, true
from sqlalchemy.sql import exists

from hub.store.schema import device_models, device_tags, devices

__all__ = [
    "Both",
    "Comparison",
    "Condition",
    "Either",
    "Everything",
    "Node",
    "Pattern",
    "device_condition",
    "device_ids",
]

Condition = ColumnElement[bool]
Field = Literal["id", "profile", "status", "tag", "version", "state"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A value: pieces of literal text with any text between them; one piece is an exact value."""

    pieces: tuple[str, ...]

    @property
    def like(self) -> str:
        """As the pattern of LIKE with `\\` as escape."""
        escaped = (p.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for p in self.pieces)
        return "%".join(escaped)


@dataclass(frozen=True, slots=True)
class Everything:
    """All active devices."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field` (of the tag or model `key`) is, or is not, one of `values`."""

    field: Field
    key: str
    values: tuple[Pattern, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Both:
    """All of the parts hold."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of the parts holds."""

    parts: tuple[Node, ...]


Node = Everything | Comparison | Both | Either


def device_condition(node: Node) -> Condition:
    """The condition on `devices` that `node` stands for."""
    match node:
        case Everything():
            return devices.c.status == "active"
        case Both(parts):
            return and_(true(), *(device_condition(part) for part in parts))
        case Either(parts):
            return or_(false(), *(device_condition(part) for part in parts))
        case Comparison():
            positive = or_(false(), *(_one_of(node, value) for value in node.values))
            return not_(positive) if node.negated else positive


def device_ids(ids: Sequence[str]) -> Condition:
    """Exactly these devices, whatever their status; at most some thousands at once."""
    return devices.c.device_id.in_(list(ids))


def _one_of(node: Comparison, value: Pattern) -> Condition:
    match node.field:
        case "id":
            return _text(devices.c.device_id, value)
        case "profile":
            return _text(devices.c.profile, value)
        case "status":
            return _text(devices.c.status, value)
        case "tag":
            return exists().where(
                device_tags.c.device_id == devices.c.device_id,
                device_tags.c.key == node.key,
                _text(device_tags.c.value, value),
            )
        case "version":
            return _model(node.key, _number(value))
        case "state":
            return _model(node.key, _text(device_models.c.state, value))


def _model(model: str, condition: Condition) -> Condition:
    return exists().where(
        device_models.c.device_id == devices.c.device_id, device_models.c.model == model, condition
    )


def _number(value: Pattern) -> Condition:
    if value.pieces == ("", ""):
        return device_models.c.version.is_not(None)
    return device_models.c.version == literal(int(value.pieces[0]))


def _text(column: ColumnElement[str], value: Pattern) -> Condition:
    if len(value.pieces) == 1:
        return column == value.pieces[0]
    if all(not piece for piece in value.pieces):
        return column.is_not(None)
    return func.lower(column).like(value.like.lower(), escape="\\")
