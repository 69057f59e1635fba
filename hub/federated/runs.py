"""Federated runs as people and triggers ask for them: planned without effect, created, listed, cancelled, resumed.

Everything that can be known is checked before there is a run: the definition, the filter, the strategy, the version and
its head. What happens afterwards is the loop's (`hub.federated.loop`), which finds in the database what is to be done.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore
from hub.federated.base import Base, base_version, load_base
from hub.federated.checkpoint import Checkpoint, write_checkpoint
from hub.federated.definition import RunDefinition, check_run
from hub.federated.forecast import Forecast, forecast
from hub.federated.membership import RunMembers, needs_of
from hub.federated.run import definition_digest
from hub.federated.spending import device_bytes
from hub.federated.strategy_names import check_strategy
from hub.store import federated as store
from hub.store import federated_devices
from hub.store.database import Connection, Database
from hub.store.federated import RoundRow, RunRow, RunState
from hub.store.federated_devices import AnswerRow
from hub.store.page import PageRequest
from shared import canonical
from shared.clock import Clock
from shared.limits import MAX_REASON_CHARS

__all__ = ["Planned", "RunService"]


_ANSWERS_KEPT_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a run would do. version: the one that it would begin from."""

    definition: RunDefinition
    version: int
    bundle_sha256: str
    weights: int
    forecast: Forecast


class RunService:
    """Creates, lists and commands runs."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore, members: RunMembers) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._blobs = blobs
        self._members = members
        self._wake: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when there is something to do for the loop."""
        self._wake.append(listener)

    # --- creating -----------------------------------------------------------------------------------------------------
    def plan(self, definition: RunDefinition) -> Planned:
        """What a run would do now; errors as for `create`."""
        base = self._base(definition)
        with self._db.read() as connection:
            judged = self._members.judge(connection, definition, needs_of(definition, base))
        down, up = device_bytes(definition, base.sizes)
        return Planned(
            definition=definition,
            version=base.version,
            bundle_sha256=base.bundle_sha256,
            weights=sum(base.sizes),
            forecast=forecast(definition, [one.member() for one in judged], down, up),
        )

    def create(
        self,
        definition: RunDefinition,
        *,
        by: str,
        reason: str = "",
        trigger: str = "",
        within: Callable[[Connection, str], None] = lambda _connection, _run_id: None,
    ) -> RunRow:
        """Queue a run; the loop begins it as soon as there is room. trigger: the name of what asked for it.

        within: called in the transaction that makes it, with its id: what it writes stands or falls with the run.

        A run without a quorum is made all the same: it waits for devices (`rounds.wait_s`).
        Errors: `federated.invalid|strategy|no_base|no_head|withdrawn|too_large`, `filter.*`, `model.unknown`,
        `version.unknown|collected`.
        """
        base = self._base(definition)
        run_id, now_s = f"f-{secrets.token_hex(6)}", self._clock.now()
        row = _new_row(run_id, definition, base, by=by, reason=reason[:MAX_REASON_CHARS], trigger=trigger, now_s=now_s)
        with self._db.write() as connection:
            base_version(connection, definition.model, base.version)  # it must still be there
            made = store.insert_run(connection, row, write_checkpoint(_first(run_id, definition, base)))
            detail = {"model": base.model, "version": base.version, "rounds": row.rounds, "filter": definition.filter}
            detail |= {"trigger": trigger, "reason": row.reason}
            self._audit.append(connection, by, "federated.create", run_id, detail)
            within(connection, run_id)
        self._changed()
        return made

    def _base(self, definition: RunDefinition) -> Base:
        check_run(definition)
        check_strategy(definition.strategy.name, definition.strategy.parameters)
        with self._db.read() as connection:
            version = base_version(connection, definition.model, definition.version)
            self._members.check_filter(connection, definition.filter)
        return load_base(self._blobs, version)

    # --- commanding ---------------------------------------------------------------------------------------------------
    def cancel(self, run_id: str, *, by: str, reason: str = "") -> RunRow:
        """End a run: one that waits at once, one that goes on before its next round. Its last checkpoint stands.

        Errors: `federated.unknown`, `federated.state` (it is over, or is being handed over).
        """
        with self._db.write() as connection:
            row = store.get_run(connection, run_id)
            if row.state is RunState.RUNNING:
                if not row.cancelled_by:
                    store.want_cancel(connection, row, by)
            else:
                store.set_state(connection, row, RunState.CANCELLED, cancelled_by=by, ended_s=self._clock.now())
            self._audit.append(connection, by, "federated.cancel", run_id, {"reason": reason})
            made = store.get_run(connection, run_id)
        self._changed()
        return made

    def resume(self, run_id: str, *, by: str, reason: str = "") -> RunRow:
        """Let a run that failed or was cancelled go on from its last complete round.

        Errors: `federated.unknown`, `federated.state`, `version.collected`, `federated.withdrawn`.
        """
        with self._db.write() as connection:
            row = store.get_run(connection, run_id)
            base_version(connection, row.model, row.version)
            made = store.set_state(
                connection, row, RunState.QUEUED, code="", message="", cancelled_by="", holder="", ended_s=None
            )
            detail = {"from_round": row.round_no, "after": row.code, "reason": reason}
            self._audit.append(connection, by, "federated.resume", run_id, detail)
        self._changed()
        return made

    def _changed(self) -> None:
        for listener in self._wake:
            listener()

    # --- looking ------------------------------------------------------------------------------------------------------
    def get(self, run_id: str) -> RunRow:
        """A run; error `federated.unknown`."""
        with self._db.read() as connection:
            return store.get_run(connection, run_id)

    def page(
        self, page: PageRequest, model: str | None = None, only: frozenset[str] | None = None, active: bool = False
    ) -> list[RunRow]:
        """Runs, newest first; `only`: the models of a token's scope; `active`: those that have not ended."""
        with self._db.read() as connection:
            return store.list_runs(connection, page, model, only, active)

    def rounds(self, run_id: str, page: PageRequest) -> list[RoundRow]:
        """Its attempts at rounds, oldest first; error `federated.unknown`."""
        with self._db.read() as connection:
            return store.list_rounds(connection, store.get_run(connection, run_id).run_no, page)

    def answers(self, run_id: str, limit: int) -> list[AnswerRow]:
        """What devices said to its offers, newest first; error `federated.unknown`."""
        with self._db.read() as connection:
            return federated_devices.last_answers(connection, store.get_run(connection, run_id).run_id, limit)


    # --- keeping house ------------------------------------------------------------------------------------------------
    def prune(self) -> int:
        """Forget what devices said to offers long ago; returns how many answers."""
        with self._db.write_rows() as connection:
            return federated_devices.prune_answers(connection, self._clock.now() - _ANSWERS_KEPT_S)


def _first(run_id: str, definition: RunDefinition, base: Base) -> Checkpoint:
    """From where a run begins: the weights of its base version."""
    return Checkpoint(
        run_id=run_id,
        definition=definition_digest(definition),
        seed=definition.seed,
        round_no=0,
        weights=base.weights,
    )


def _new_row(
    run_id: str, definition: RunDefinition, base: Base, *, by: str, reason: str, trigger: str, now_s: float
) -> RunRow:
    return RunRow(
        run_no=0,
        run_id=run_id,
        model=base.model,
        version=base.version,
        bundle_sha256=base.bundle_sha256,
        definition=canonical.dumps(definition).decode(),
        sizes=base.sizes,
        state=RunState.QUEUED,
        rounds=definition.rounds.count,
        round_no=0,
        attempts=0,
        bytes_down=0,
        bytes_up=0,
        code="",
        message="",
        privacy={},
        evaluation=None,
        result={},
        trigger=trigger,
        reason=reason,
        holder="",
        cancelled_by="",
        port=None,
        changes=1,
        created_s=now_s,
        created_by=by,
        started_s=None,
        ended_s=None,
    )
