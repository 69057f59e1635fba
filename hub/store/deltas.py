"""Deltas by pair of bundles: wanted, being made, ready, or known to be worth nothing. All changes are set-based.

Who makes one claims its row first, for a limited time, so several hubs and many devices that ask at once make it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    String,
    and_,
    bindparam,
    delete,
    exists,
    literal,
    null,
    or_,
    select,
    update,
)

from hub.store.garbage import Collectable, Retention
from hub.store.repeated import Repeated
from hub.store.schema import assignments, blobs, deltas, device_models, versions

__all__ = [
    "DeltaRow",
    "DeltaState",
    "claim",
    "collectable_deltas",
    "find",
    "forget",
    "pair_model",
    "put_back",
    "retry",
    "set_none",
    "set_ready",
    "want",
    "want_pair",
]

_AHEAD_COUNT = 8  # old versions of a model for which a delta is made before anybody asks


class DeltaState(StrEnum):
    """How far a delta is. NONE: there is none, for the reason given."""

    WANTED = "wanted"
    MAKING = "making"
    READY = "ready"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRow:
    """One pair. `sha256` and `bytes` are of the delta itself, once it is ready."""

    to_sha256: str
    from_sha256: str
    model: str
    state: str
    sha256: str | None
    bytes: int | None
    reason_code: str
    attempts: int


_COLUMNS = [deltas.c[name] for name in DeltaRow.__dataclass_fields__]


def _same(row: DeltaRow) -> ColumnElement[bool]:
    return and_(deltas.c.to_sha256 == row.to_sha256, deltas.c.from_sha256 == row.from_sha256)


def want(connection: Connection, model: str, to_sha256: str, now_s: float) -> None:
    """Have a delta made to a bundle from every other version of its model that some device serves, the newest ones.

    One statement over the versions of the model, however many devices there are.
    """
    _WANT.run_one(connection, {"of_model": model, "to": to_sha256, "at_s": now_s})


def want_pair(connection: Connection, model: str, to_sha256: str, from_sha256: str, now_s: float) -> None:
    """Have one delta made; nothing happens when the pair is known."""
    given = {"of_model": model, "to": to_sha256, "since": from_sha256, "at_s": now_s}
    _WANT_PAIR.run_one(connection, given)


def _sources() -> ColumnElement[str]:
    served = exists().where(device_models.c.model == versions.c.model, device_models.c.version == versions.c.version)
    newest = (
        select(versions.c.bundle_sha256)
        .join(blobs, blobs.c.sha256 == versions.c.bundle_sha256)
        .where(
            versions.c.model == bindparam("of_model", type_=String),
            versions.c.bundle_sha256 != bindparam("to", type_=String),
            blobs.c.collected_s.is_(None),
            served,
        )
        .order_by(versions.c.version.desc())
        .limit(_AHEAD_COUNT)
    ).subquery()
    return newest.c.bundle_sha256


def _pair() -> ColumnElement[str]:
    one = select(bindparam("since", type_=String).label("bundle_sha256")).subquery()
    return one.c.bundle_sha256


def _wanting(insert: Any, from_sha256: ColumnElement[str]) -> Any:
    values: dict[str, ColumnElement[Any]] = {
        "to_sha256": bindparam("to", type_=String),
        "from_sha256": from_sha256,
        "model": bindparam("of_model", type_=String),
        "state": literal(DeltaState.WANTED.value),
        "sha256": null(),
        "reason_code": literal(""),
        "attempts": literal(0),
        "wanted_s": bindparam("at_s", type_=Float),
    }
    rows = select(*values.values()).where(literal(1) == 1)  # SQLite cannot tell `ON CONFLICT` from a join without it
    return insert(deltas).from_select(list(values), rows).on_conflict_do_nothing()


_WANT = Repeated(lambda insert: _wanting(insert, _sources()))
_WANT_PAIR = Repeated(lambda insert: _wanting(insert, _pair()))


def pair_model(connection: Connection, to_sha256: str, from_sha256: str) -> str | None:
    """The model of which both bundles are versions whose bytes are stored; None when there is none."""
    old, new = versions.alias("old"), versions.alias("new")
    live = select(blobs.c.sha256).where(blobs.c.collected_s.is_(None))
    query = select(new.c.model).where(
        new.c.bundle_sha256 == to_sha256,
        old.c.bundle_sha256 == from_sha256,
        old.c.model == new.c.model,
        new.c.bundle_sha256.in_(live),
        old.c.bundle_sha256.in_(live),
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def find(connection: Connection, to_sha256: str, from_sha256: Sequence[str]) -> list[DeltaRow]:
    """What is known of the deltas to a bundle from any of these."""
    query = select(*_COLUMNS).where(deltas.c.to_sha256 == to_sha256, deltas.c.from_sha256.in_(list(from_sha256)))
    return [DeltaRow(**row._mapping) for row in connection.execute(query)]


def claim(connection: Connection, now_s: float, until_s: float) -> DeltaRow | None:
    """The delta that has been wanted for longest and that nobody makes, now the caller's until `until_s`."""
    free = or_(
        deltas.c.state == DeltaState.WANTED.value,
        and_(deltas.c.state == DeltaState.MAKING.value, deltas.c.until_s < now_s),
    )
    query = select(*_COLUMNS).where(free).order_by(deltas.c.wanted_s, deltas.c.from_sha256).limit(1)
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    row = DeltaRow(**found._mapping)
    _change(connection, row, DeltaState.MAKING, attempts=row.attempts + 1, until_s=until_s)
    return row


def put_back(connection: Connection, row: DeltaRow) -> None:
    """Give a claim back as if it had never been made."""
    _change(connection, row, DeltaState.WANTED, attempts=row.attempts, until_s=None)


def retry(connection: Connection, row: DeltaRow) -> None:
    """It failed for a reason that may pass: it is wanted again, and the attempt counts."""
    _change(connection, row, DeltaState.WANTED, until_s=None)


def set_ready(connection: Connection, row: DeltaRow, sha256: str, size: int, now_s: float) -> None:
    """The delta is stored under `sha256`."""
    _change(connection, row, DeltaState.READY, sha256=sha256, bytes=size, ended_s=now_s, until_s=None)


def set_none(connection: Connection, row: DeltaRow, reason_code: str, now_s: float) -> None:
    """There is no delta for this pair, and none is tried again."""
    _change(connection, row, DeltaState.NONE, reason_code=reason_code[:64], ended_s=now_s, until_s=None)


def _change(connection: Connection, row: DeltaRow, state: DeltaState, **values: object) -> None:
    connection.execute(update(deltas).where(_same(row)).values(state=state.value, **values))


# --- collecting -------------------------------------------------------------------------------------------------------
def collectable_deltas(
    connection: Connection, retention: Retention, now_s: float, leaving: Sequence[str]
) -> list[Collectable]:
    """Deltas of a bundle that is gone or in `leaving`, and old ones that nobody is on the way along."""
    live = select(blobs.c.sha256).where(blobs.c.collected_s.is_(None), blobs.c.sha256.not_in(leaving))
    gone = or_(deltas.c.to_sha256.not_in(live), deltas.c.from_sha256.not_in(live))
    aimed = exists().where(assignments.c.bundle_sha256 == deltas.c.to_sha256)
    served = exists().where(
        versions.c.bundle_sha256 == deltas.c.from_sha256,
        device_models.c.model == versions.c.model,
        device_models.c.version == versions.c.version,
    )
    old = and_(deltas.c.wanted_s < now_s - retention.fresh_s, ~and_(aimed, served))
    query = (
        select(deltas.c.sha256, deltas.c.bytes, deltas.c.model, deltas.c.to_sha256, deltas.c.from_sha256)
        .where(deltas.c.state != DeltaState.MAKING.value, or_(gone, old))
        .order_by(deltas.c.to_sha256, deltas.c.from_sha256)
    )
    return [
        Collectable(
            sha256=row.sha256 or "",
            bytes=row.bytes or 0,
            kind="delta",
            model=row.model,
            name=f"{row.from_sha256}/{row.to_sha256}",
        )
        for row in connection.execute(query)
    ]


def forget(connection: Connection, found: Sequence[Collectable]) -> None:
    """Remove the rows of collected deltas, so that they may be made again."""
    for item in found:
        old, _, new = item.name.partition("/")
        connection.execute(delete(deltas).where(deltas.c.to_sha256 == new, deltas.c.from_sha256 == old))
