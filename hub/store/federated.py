"""Federated runs as rows: what was asked for, how they stand, their rounds, and the one checkpoint that is kept.

A run changes state by legal steps only. Who works on it is its `holder`, and whatever that one saves is saved only
while it still is: a hub that was paused and has lost its run writes nothing any more. `changes` grows with all that
there is to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, insert, select, update

from hub.store.page import PageRequest, after
from hub.store.schema import federated_checkpoints, federated_rounds, federated_runs
from shared.errors import Conflict, NotFound

__all__ = [
    "ENDED",
    "OPEN",
    "TRANSITIONS",
    "RoundRow",
    "RunRow",
    "RunState",
    "add_round",
    "admitted_devices",
    "find_run",
    "get_run",
    "insert_run",
    "keep_checkpoint",
    "list_rounds",
    "list_runs",
    "load_checkpoint",
    "open_runs",
    "set_evaluation",
    "set_port",
    "set_state",
    "want_cancel",
]


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    HANDING_OVER = "handing_over"  # the rounds are over; the weights are made a version of the model
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: frozenset[tuple[RunState, RunState]] = frozenset(
    {
        (RunState.QUEUED, RunState.RUNNING),
        (RunState.QUEUED, RunState.CANCELLED),
        (RunState.QUEUED, RunState.FAILED),  # it cannot even begin
        (RunState.RUNNING, RunState.HANDING_OVER),
        (RunState.RUNNING, RunState.FAILED),
        (RunState.RUNNING, RunState.CANCELLED),
        (RunState.HANDING_OVER, RunState.FINISHED),
        (RunState.HANDING_OVER, RunState.FAILED),
        (RunState.FAILED, RunState.QUEUED),  # resumed
        (RunState.CANCELLED, RunState.QUEUED),
    }
)
"""The legal steps."""

OPEN = frozenset({RunState.QUEUED, RunState.RUNNING, RunState.HANDING_OVER})
ENDED = frozenset(RunState) - OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run. round_no: complete rounds. attempts: those and the abandoned ones. holder: the hub that works on it.

    evaluation: what devices measured of the last weights (`hub.federated.evaluation`). result: what became of them.
    trigger: by which it began; empty: somebody asked for it.
    """

    run_no: int
    run_id: str
    model: str
    version: int
    bundle_sha256: str
    definition: str
    sizes: tuple[int, ...]
    state: RunState
    rounds: int
    round_no: int
    attempts: int
    bytes_down: int
    bytes_up: int
    code: str
    message: str
    privacy: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None
    result: Mapping[str, Any]
    trigger: str
    reason: str
    holder: str
    cancelled_by: str
    port: int | None
    changes: int
    created_s: float
    created_by: str
    started_s: float | None
    ended_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """One attempt at a round. devices: what became of each that was asked (`admitted`, `dropped`, or a code)."""

    attempt: int
    round_no: int
    at_s: float
    seconds: float
    abandoned: str
    asked: int
    joined: int
    admitted: int
    rejected: int
    dropped: int
    bytes_down: int
    bytes_up: int
    metrics: Mapping[str, float]
    devices: Mapping[str, str]


_TEXTS = ("sizes", "privacy", "evaluation", "result")


def _run(row: Row[Any]) -> RunRow:
    texts = {name: msgspec.json.decode(row._mapping[name]) for name in _TEXTS}
    texts["sizes"] = tuple(texts["sizes"])
    return RunRow(**{**row._mapping, **texts, "state": RunState(row.state)})


def _round(row: Row[Any]) -> RoundRow:
    read = {name: msgspec.json.decode(row._mapping[name]) for name in ("metrics", "devices")}
    return RoundRow(**{**row._mapping, **read})


def _text(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


_RUN = select(*(federated_runs.c[name] for name in RunRow.__dataclass_fields__))
_ROUND = select(*(federated_rounds.c[name] for name in RoundRow.__dataclass_fields__))


# --- writing ----------------------------------------------------------------------------------------------------------
def insert_run(connection: Connection, row: RunRow, checkpoint: bytes) -> RunRow:
    """Add a run and the checkpoint from which it begins; its number is given here."""
    values = {name: getattr(row, name) for name in RunRow.__dataclass_fields__ if name != "run_no"}
    values |= {name: _text(values[name]) for name in _TEXTS} | {"state": row.state.value}
    made = insert(federated_runs).values(values).returning(federated_runs.c.run_no)
    number: int = connection.execute(made).scalar_one()
    connection.execute(
        insert(federated_checkpoints).values(run_no=number, checkpoint=checkpoint, saved_s=row.created_s)
    )
    return get_run(connection, row.run_id)


def set_state(connection: Connection, row: RunRow, to: RunState, **values: Any) -> RunRow:
    """Take a legal step; state and holder must still be those in `row`. Errors `federated.state`, `federated.changed`.

    values: further columns that change with it.
    """
    if (row.state, to) not in TRANSITIONS:
        raise Conflict(
            "federated.state",
            f"The run {row.run_id} is {row.state.value} and cannot become {to.value}.",
            detail={"state": row.state.value, "wanted": to.value},
        )
    if not _change(connection, row, state=to.value, **values):
        raise Conflict("federated.changed", "The run changed meanwhile.", hint="Look at it again.", retriable=True)
    return get_run(connection, row.run_id)


def set_port(connection: Connection, row: RunRow, holder: str, port: int | None) -> bool:
    """Say which hub works on an open run and where devices join; False: it changed meanwhile."""
    return _change(connection, row, holder=holder, port=port)


def want_cancel(connection: Connection, row: RunRow, actor: str) -> bool:
    """Note who wants a running run to end; False: it changed meanwhile."""
    return _change(connection, row, cancelled_by=actor)


def set_evaluation(connection: Connection, row: RunRow, evaluation: Mapping[str, Any] | None, bytes_down: int) -> None:
    """Keep what devices measured of the last weights; error `federated.changed` when another hub has the run."""
    down = federated_runs.c.bytes_down + bytes_down
    if not _change(connection, row, evaluation=evaluation, bytes_down=down):
        raise Conflict("federated.changed", "Another hub works on the run.", retriable=True)


def add_round(
    connection: Connection,
    row: RunRow,
    made: RoundRow,
    checkpoint: bytes | None,
    privacy: Mapping[str, Any] | None = None,
) -> RunRow:
    """Keep a round, and the checkpoint after it, if it counts; error `federated.changed` when another hub has the run.

    The attempt's number is given here. privacy: what the run has spent with it; empty: as before.
    """
    now = get_run(connection, row.run_id)
    same: dict[str, Any] = {"attempts": now.attempts + 1, "bytes_down": now.bytes_down + made.bytes_down}
    same |= {"bytes_up": now.bytes_up + made.bytes_up}
    same |= {} if checkpoint is None else {"round_no": made.round_no}
    same |= {"privacy": privacy} if privacy else {}
    if now.state is not RunState.RUNNING or not _change(connection, row, **same):
        raise Conflict("federated.changed", "Another hub works on the run.", retriable=True)
    values = {name: getattr(made, name) for name in RoundRow.__dataclass_fields__}
    values |= {"run_no": row.run_no, "attempt": now.attempts + 1}
    values |= {"metrics": _text(made.metrics), "devices": _text(made.devices)}
    connection.execute(insert(federated_rounds).values(values))
    if checkpoint is not None:
        _save(connection, row, checkpoint, made.at_s)
    return get_run(connection, row.run_id)


def keep_checkpoint(
    connection: Connection, row: RunRow, checkpoint: bytes, now_s: float, privacy: Mapping[str, Any]
) -> RunRow:
    """Keep from where a run may go on, in the middle of a round; error `federated.changed`."""
    if get_run(connection, row.run_id).state is not RunState.RUNNING or not _change(connection, row, privacy=privacy):
        raise Conflict("federated.changed", "Another hub works on the run.", retriable=True)
    _save(connection, row, checkpoint, now_s)
    return get_run(connection, row.run_id)


def _save(connection: Connection, row: RunRow, checkpoint: bytes, now_s: float) -> None:
    checkpoints = federated_checkpoints
    connection.execute(
        update(checkpoints).where(checkpoints.c.run_no == row.run_no).values(checkpoint=checkpoint, saved_s=now_s)
    )


def _change(connection: Connection, row: RunRow, **values: Any) -> bool:
    for name in _TEXTS:
        if name in values:
            values[name] = _text(values[name])
    runs = federated_runs.c
    done = connection.execute(
        update(federated_runs)
        .where(runs.run_no == row.run_no, runs.state == row.state.value, runs.holder == row.holder)
        .values(**values, changes=runs.changes + 1)
    )
    return done.rowcount == 1


# --- reading ----------------------------------------------------------------------------------------------------------
def find_run(connection: Connection, run_id: str) -> RunRow | None:
    """A run by its name."""
    row = connection.execute(_RUN.where(federated_runs.c.run_id == run_id)).one_or_none()
    return None if row is None else _run(row)


def get_run(connection: Connection, run_id: str) -> RunRow:
    """A run by its name, or `NotFound` (`federated.unknown`)."""
    row = find_run(connection, run_id)
    if row is None:
        raise NotFound(
            "federated.unknown",
            f"There is no federated run {run_id!r:.60}.",
            hint="`skerry federated list` shows them.",
        )
    return row


def open_runs(connection: Connection) -> list[RunRow]:
    """Runs that have not ended: those that were begun first, then in the order in which they were asked for."""
    query = _RUN.where(federated_runs.c.state.in_([state.value for state in OPEN]))
    rows = [_run(row) for row in connection.execute(query.order_by(federated_runs.c.run_no))]
    return sorted(rows, key=lambda row: row.state is RunState.QUEUED)


def list_runs(
    connection: Connection,
    page: PageRequest,
    model: str | None = None,
    only: frozenset[str] | None = None,
    active: bool = False,
) -> list[RunRow]:
    """Runs, newest first; of one model, or of the models of a token's scope; `active`: those that have not ended."""
    order = (federated_runs.c.created_s, federated_runs.c.run_id)
    query: Select[Any] = _RUN.where(*after(order, page, descending=True))
    if model is not None:
        query = query.where(federated_runs.c.model == model)
    if only is not None:
        query = query.where(federated_runs.c.model.in_(sorted(only)))
    if active:
        query = query.where(federated_runs.c.state.in_([state.value for state in OPEN]))
    query = query.order_by(*(column.desc() for column in order)).limit(page.fetch)
    return [_run(row) for row in connection.execute(query)]


def list_rounds(connection: Connection, run_no: int, page: PageRequest) -> list[RoundRow]:
    """Attempts at rounds, oldest first; the key is the attempt's number."""
    query = _ROUND.where(federated_rounds.c.run_no == run_no, *after([federated_rounds.c.attempt], page))
    rows = connection.execute(query.order_by(federated_rounds.c.attempt).limit(page.fetch))
    return [_round(row) for row in rows]


def admitted_devices(connection: Connection, run_no: int) -> tuple[str, ...]:
    """The devices of which an update went into a round that counts, sorted."""
    rounds = federated_rounds.c
    query = select(rounds.devices).where(rounds.run_no == run_no, rounds.abandoned == "")
    found: set[str] = set()
    for text in connection.scalars(query):
        found.update(d for d, fate in msgspec.json.decode(text, type=dict[str, str]).items() if fate == "admitted")
    return tuple(sorted(found))


def load_checkpoint(connection: Connection, run_no: int) -> bytes:
    """The last checkpoint of a run; at first that from which it begins."""
    query = select(federated_checkpoints.c.checkpoint).where(federated_checkpoints.c.run_no == run_no)
    return bytes(connection.execute(query).scalar_one())
