"""Firings of triggers, what they used up, the state that the next one goes by, and the clock of it all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from hub.rollouts.state import EngineClock
from hub.store.page import PageRequest, after
from hub.store.schema import train_firings, train_keys, train_state, trigger_clock
from shared.errors import NotFound

__all__ = ["FiringRow", "StateRow", "add_firing", "firings_of_key", "get_firing", "link_run", "list_firings"]
__all__ += ["load_clock", "load_states", "refuse_firing", "save_clock", "save_state", "starting_firings"]

_CLOCK = "train"
_F = train_firings.c


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """What counts about a model since its last run. began_e: engine time; None: there was none."""

    model: str
    run_id: str = ""
    revision: int = 0
    base_samples: int = 0
    began_e: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringRow:
    """One firing. state: starting, started, refused. evidence: the decision with every figure."""

    firing_id: int
    model: str
    at_s: float
    state: str
    run_id: str
    reason: str
    evidence: Mapping[str, Any]
    definition: str
    code: str
    message: str


# --- the clock ------------------------------------------------------------------------------------------------------
def load_clock(connection: Connection) -> EngineClock:
    """The clock at the last tick."""
    row = connection.execute(select(trigger_clock).where(trigger_clock.c.name == _CLOCK)).one_or_none()
    if row is None:
        return EngineClock()
    return EngineClock(wall_s=row.wall_s, elapsed_s=row.elapsed_e, jumped_s=row.jumped_e)


def save_clock(connection: Connection, before: EngineClock, clock: EngineClock) -> bool:
    """Keep the clock of this tick; False: another hub has ticked since `before` was read."""
    c = trigger_clock.c
    values = {"wall_s": clock.wall_s, "elapsed_e": clock.elapsed_s, "jumped_e": clock.jumped_s}
    same = (c.name == _CLOCK, c.wall_s == before.wall_s, c.elapsed_e == before.elapsed_s)
    if connection.execute(update(trigger_clock).where(*same).values(**values)).rowcount:
        return True
    if connection.execute(select(c.name).where(c.name == _CLOCK)).first() is not None:
        return False
    connection.execute(insert(trigger_clock).values(name=_CLOCK, **values))
    return True


# --- the state ------------------------------------------------------------------------------------------------------
def load_states(connection: Connection, models: Collection[str]) -> dict[str, StateRow]:
    """By model; a model of which nothing is known is left out."""
    query = select(train_state).where(train_state.c.model.in_(sorted(models)))
    return {row["model"]: StateRow(**row) for row in connection.execute(query).mappings()}


def save_state(connection: Connection, before: StateRow | None, row: StateRow) -> bool:
    """Keep the state; False: it is not `before` any more. The caller holds the transaction alone."""
    values = {name: getattr(row, name) for name in StateRow.__dataclass_fields__}
    if before is None:
        if load_states(connection, [row.model]):
            return False
        connection.execute(insert(train_state).values(**values))
        return True
    same = (train_state.c.model == row.model, train_state.c.revision == before.revision)
    return connection.execute(update(train_state).where(*same).values(**values)).rowcount == 1


# --- firings --------------------------------------------------------------------------------------------------------
def add_firing(connection: Connection, fields: Mapping[str, Any], keys: Sequence[str]) -> int:
    """Add a firing with what it uses up; its number. A key that was used already is an integrity error."""
    made = insert(train_firings).values(**fields).returning(_F.firing_id)
    number: int = connection.execute(made).scalar_one()
    connection.execute(
        insert(train_keys), [{"model": fields["model"], "key": key, "firing_id": number} for key in keys]
    )
    return number


def starting_firings(connection: Connection, limit: int) -> list[FiringRow]:
    """Firings whose run is still to be made, oldest first."""
    query = select(train_firings).where(_F.state == "starting").order_by(_F.firing_id).limit(limit)
    return [FiringRow(**row) for row in connection.execute(query).mappings()]


def link_run(connection: Connection, firing_id: int, run_id: str) -> bool:
    """Say which run a firing has made; False: it is not to make one any more."""
    same = (_F.firing_id == firing_id, _F.state == "starting")
    changes = {"state": "started", "run_id": run_id}
    return connection.execute(update(train_firings).where(*same).values(**changes)).rowcount == 1


def refuse_firing(connection: Connection, firing_id: int, code: str, message: str) -> bool:
    """Say why a firing made no run; False: it has made one, or was refused before."""
    same = (_F.firing_id == firing_id, _F.state == "starting")
    changes = {"state": "refused", "code": code, "message": message}
    return connection.execute(update(train_firings).where(*same).values(**changes)).rowcount == 1


def get_firing(connection: Connection, firing_id: int) -> FiringRow:
    """One firing, or `trigger.unknown`."""
    row = connection.execute(select(train_firings).where(_F.firing_id == firing_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("trigger.unknown", f"There is no firing {firing_id}.")
    return FiringRow(**row)


def list_firings(
    connection: Connection, page: PageRequest, model: str | None = None, only: Collection[str] | None = None
) -> list[FiringRow]:
    """Firings, newest first, of one model or of the models of a token's scope."""
    query = select(train_firings).where(*after([_F.firing_id], page, descending=True))
    if model is not None:
        query = query.where(_F.model == model)
    if only is not None:
        query = query.where(_F.model.in_(sorted(only)))
    rows = connection.execute(query.order_by(_F.firing_id.desc()).limit(page.fetch)).mappings()
    return [FiringRow(**row) for row in rows]


def firings_of_key(connection: Connection, key: str) -> list[FiringRow]:
    """The firings that used up a key, whatever their model."""
    query = select(train_firings).join(train_keys, train_keys.c.firing_id == _F.firing_id)
    rows = connection.execute(query.where(train_keys.c.key == key).order_by(_F.firing_id)).mappings()
    return [FiringRow(**row) for row in rows]
