"""Models and the history of their aliases. The history is only ever added to; an alias is its newest move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import alias_history, models
from shared.errors import NotFound

__all__ = [
    "PRODUCTION",
    "AliasMove",
    "ModelRow",
    "add_alias_move",
    "alias_version",
    "current_aliases",
    "find_model",
    "get_model",
    "insert_model",
    "list_alias_moves",
    "list_models",
    "update_model",
]

PRODUCTION = "production"
"""The alias that only approved versions have, and that gates compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model. `gate`: its gate policy as data, `{}` for the hub's default; `bake_s`: probation after an install."""

    model: str
    description: str
    gate: Mapping[str, Any]
    bake_s: int
    created_s: float
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMove:
    """One move of an alias; `version` None: it was taken away."""

    move_id: int
    model: str
    alias: str
    version: int | None
    at_s: float
    by: str
    reason: str


def _model(row: Row[Any]) -> ModelRow:
    return ModelRow(**row._mapping)


def insert_model(connection: Connection, row: ModelRow) -> None:
    """Add a model."""
    connection.execute(
        insert(models).values(
            model=row.model,
            description=row.description,
            gate=dict(row.gate),
            bake_s=row.bake_s,
            created_s=row.created_s,
            created_by=row.created_by,
        )
    )


def update_model(connection: Connection, model: str, changes: Mapping[str, Any]) -> None:
    """Change columns of a model."""
    connection.execute(update(models).where(models.c.model == model).values(**changes))


def find_model(connection: Connection, model: str) -> ModelRow | None:
    """The model, if there is one."""
    row = connection.execute(select(models).where(models.c.model == model)).one_or_none()
    return None if row is None else _model(row)


def get_model(connection: Connection, model: str) -> ModelRow:
    """The model, or `NotFound` (`model.unknown`)."""
    row = find_model(connection, model)
    if row is None:
        raise NotFound(
            "model.unknown", f"There is no model {model!r:.60}.", hint="`skerry models list` names those there are."
        )
    return row


def list_models(connection: Connection, page: PageRequest, only: frozenset[str] | None = None) -> list[ModelRow]:
    """Models by name; `only` limits them to a token's scope."""
    conditions = after([models.c.model], page)
    if only is not None:
        conditions.append(models.c.model.in_(sorted(only)))
    query = select(models).where(and_(True, *conditions)).order_by(models.c.model).limit(page.fetch)
    return [_model(row) for row in connection.execute(query)]


def add_alias_move(
    connection: Connection, model: str, alias: str, version: int | None, now_s: float, by: str, reason: str
) -> None:
    """Append a move to the history."""
    connection.execute(
        insert(alias_history).values(model=model, alias=alias, version=version, at_s=now_s, by=by, reason=reason)
    )


def alias_version(connection: Connection, model: str, alias: str) -> int | None:
    """The version that an alias names now; None: none."""
    query = (
        select(alias_history.c.version)
        .where(alias_history.c.model == model, alias_history.c.alias == alias)
        .order_by(alias_history.c.move_id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def current_aliases(connection: Connection, model: str) -> list[AliasMove]:
    """The newest move of every alias that names a version now, by alias."""
    newest = (
        select(func.max(alias_history.c.move_id))
        .where(alias_history.c.model == model)
        .group_by(alias_history.c.alias)
    )
    query = (
        select(alias_history)
        .where(alias_history.c.move_id.in_(newest), alias_history.c.version.is_not(None))
        .order_by(alias_history.c.alias)
    )
    return [AliasMove(**row._mapping) for row in connection.execute(query)]


def list_alias_moves(connection: Connection, model: str, alias: str, page: PageRequest) -> list[AliasMove]:
    """The history of an alias, newest first."""
    query = (
        select(alias_history)
        .where(
            alias_history.c.model == model,
            alias_history.c.alias == alias,
            *after([alias_history.c.move_id], page, descending=True),
        )
        .order_by(alias_history.c.move_id.desc())
        .limit(page.fetch)
    )
    return [AliasMove(**row._mapping) for row in connection.execute(query)]
