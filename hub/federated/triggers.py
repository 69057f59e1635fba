"""Training that starts by itself: policies as people change them, and the look at all of them by one hub of several.

Rules: a firing is written with its evidence and with what it uses up before its run is made, and the run is made in the
transaction that says so; so neither a crash nor a second hub makes two runs of one firing, or two firings of one alarm.
What cannot be made is kept with the reason, and is not tried again. A look costs the same for any number of devices.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from hub.audit.log import AuditLog
from hub.federated.definition import RunDefinition, run_of
from hub.federated.trigger_decision import Decision, alarm_key, decide
from hub.federated.trigger_gathering import Gathered, Gatherer
from hub.federated.trigger_policy import TrainPolicy, from_store, stored_train_policy, train_policy_of
from hub.store import models, triggers
from hub.store import policies as store
from hub.store.database import Connection, Database
from hub.store.failures import plain_errors
from hub.store.page import PageRequest
from hub.store.policies import PolicyRow
from hub.store.triggers import FiringRow
from shared import canonical
from shared.clock import Clock
from shared.errors import Conflict, SkerryError

__all__ = ["ACTOR", "Runs", "TrainTest", "TrainTriggers", "firing_name", "firing_number"]

ACTOR = "train-trigger"
"""Who makes these runs, in the audit log and in lists."""
_LOG = logging.getLogger(__name__)
_AT_ONCE = 100
_MAX_TEXT_CHARS = 500
_MAX_WAIT_S = 3600.0
_PREFIX = "t-"


class Runs(Protocol):
    """Who makes runs (`hub.federated.runs.RunService`)."""

    def plan(self, definition: RunDefinition) -> object:
        """What it would do; the errors of `create`."""
        ...

    def create(
        self,
        definition: RunDefinition,
        *,
        by: str,
        reason: str = "",
        trigger: str = "",
        within: Callable[[Connection, str], None],
    ) -> object:
        """Make a run; `within` is called in its transaction with its id."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTest:
    """What a policy would do now. code, message: why the run could not be made, empty if it could."""

    model: str
    decision: Decision
    code: str
    message: str


def firing_name(firing_id: int) -> str:
    """How a run names the firing that made it."""
    return f"{_PREFIX}{firing_id}"


def firing_number(name: str) -> int | None:
    """The firing that a run's trigger names; None: it names none."""
    text = name.removeprefix(_PREFIX)
    return int(text) if name.startswith(_PREFIX) and text.isascii() and text.isdigit() else None


class TrainTriggers:
    """All of it; `run` is given to the scheduler."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, runs: Runs, gatherer: Gatherer) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._runs = runs
        self._gatherer = gatherer

    # --- people -----------------------------------------------------------------------------------------------------
    def set(self, model: str, values: Any, actor: str) -> PolicyRow:
        """Make or change a model's policy; errors `model.unknown`, `policy.*`."""
        policy = train_policy_of(values, model)
        with plain_errors(), self._db.write() as connection:
            return self.put(connection, model, policy, actor)

    def put(self, connection: Connection, model: str, policy: TrainPolicy, actor: str) -> PolicyRow:
        """As `set`, within the caller's write transaction."""
        models.get_model(connection, model)
        document, before = stored_train_policy(policy), store.find_policy(connection, "train", model)
        if before is not None and before.document == document:
            return before
        row = PolicyRow(model=model, document=document, changed_s=self._clock.now(), changed_by=actor)
        store.put_policy(connection, "train", row)
        self._audit.append(connection, actor, "train_trigger.set", model, {"policy": json.loads(document)})
        return row

    def remove(self, model: str, actor: str) -> None:
        """Take a model's policy away; error `policy.unknown`. What has fired stays used up."""
        with plain_errors(), self._db.write() as connection:
            self.take_away(connection, model, actor)

    def take_away(self, connection: Connection, model: str, actor: str) -> None:
        """As `remove`, within the caller's write transaction."""
        store.get_policy(connection, "train", model)
        store.remove_policy(connection, "train", model)
        self._audit.append(connection, actor, "train_trigger.remove", model)

    def get(self, model: str) -> PolicyRow:
        """A model's policy; errors `model.unknown`, `policy.unknown`."""
        with self._db.read() as connection:
            models.get_model(connection, model)
            return store.get_policy(connection, "train", model)

    def list(self, only: frozenset[str] | None = None) -> Sequence[PolicyRow]:
        """All policies; `only`: the models of a token's scope."""
        with self._db.read() as connection:
            return store.list_policies(connection, "train", only)

    def firings(
        self, page: PageRequest, model: str | None = None, only: frozenset[str] | None = None
    ) -> Sequence[FiringRow]:
        """Firings, newest first."""
        with self._db.read() as connection:
            return triggers.list_firings(connection, page, model, only)

    def firing(self, firing_id: int) -> FiringRow:
        """One firing; error `trigger.unknown`."""
        with self._db.read() as connection:
            return triggers.get_firing(connection, firing_id)

    def of_alarm(self, alert_id: int) -> Sequence[FiringRow]:
        """The firings that answered an alarm."""
        with self._db.read() as connection:
            return triggers.firings_of_key(connection, alarm_key(alert_id))

    def test(self, model: str, values: Any = None) -> TrainTest:
        """What the model's policy, or a draft of one, would do now; errors `model.unknown`, `policy.*`."""
        draft = None if values is None else train_policy_of(values, model)
        with self._db.read() as connection:
            models.get_model(connection, model)
            policy = draft or from_store(store.get_policy(connection, "train", model).document)
            gathered = self._gatherer.gather(connection, {model: policy}, self._clock.now())
        code, message = "", ""
        try:
            self._runs.plan(policy.definition(model))
        except SkerryError as error:
            code, message = error.code, error.message
        return TrainTest(model=model, decision=decide(policy, gathered.facts[model]), code=code, message=message)

    # --- work of the scheduler --------------------------------------------------------------------------------------
    def run(self) -> int:
        """Look at all policies once; returns how many runs were made. Error `database.unavailable`."""
        with plain_errors(), self._db.read() as connection:
            policies = {row.model: from_store(row.document) for row in store.list_policies(connection, "train")}
            gathered = self._gatherer.gather(connection, policies, self._clock.now())
        decisions = {model: decide(policy, gathered.facts[model]) for model, policy in policies.items()}
        with plain_errors(), self._db.write() as connection:
            self._keep(connection, policies, gathered, decisions)
        with plain_errors(), self._db.read() as connection:
            starting = triggers.starting_firings(connection, _AT_ONCE)
        return sum(self._start(row) for row in starting)

    def _keep(
        self,
        connection: Connection,
        policies: Mapping[str, TrainPolicy],
        gathered: Gathered,
        decisions: Mapping[str, Decision],
    ) -> None:
        """Write the clock, what has changed, and what fires; nothing, if another hub has looked meanwhile."""
        if not triggers.save_clock(connection, gathered.before, gathered.step.clock):
            return
        for model, policy in policies.items():
            stored, state = gathered.stored.get(model), gathered.states[model]
            fires = decisions[model].fires and _unchanged(connection, model, policy)
            if fires:
                state = replace(
                    state,
                    revision=state.revision + 1,
                    base_samples=gathered.facts[model].samples,
                    began_e=gathered.step.clock.elapsed_s,
                )
            if state == (stored or triggers.StateRow(model=model)):
                continue
            if triggers.save_state(connection, stored, state) and fires:
                self._fire(connection, model, policy, decisions[model])

    def _fire(self, connection: Connection, model: str, policy: TrainPolicy, decision: Decision) -> None:
        fields = {
            "model": model,
            "at_s": self._clock.now(),
            "state": "starting",
            "run_id": "",
            "reason": decision.reason.removeprefix("would fire because "),
            "evidence": msgspec.to_builtins(decision),
            "definition": canonical.dumps(policy.definition(model)).decode(),
            "code": "",
            "message": "",
        }
        number = triggers.add_firing(connection, fields, decision.keys)
        detail = {"firing": number, "reason": fields["reason"], "keys": decision.keys[:_AT_ONCE]}
        self._audit.append(connection, ACTOR, "train_trigger.fire", model, detail)

    def _start(self, row: FiringRow) -> bool:
        """Make the run of a firing, or keep why there is none."""
        try:
            if abs(self._clock.now() - row.at_s) > _MAX_WAIT_S:
                raise Conflict("trigger.too_late", "The reason is too old: no hub was there to make the run.")
            self.make_run(row)
        except SkerryError as error:
            _LOG.warning("the firing %d for %s has made no run: %s", row.firing_id, row.model, error)
            if not error.retriable:
                self._refuse(row, error)
            return False
        return True

    def make_run(self, row: FiringRow) -> None:
        """The run of a firing; the errors of `Runs.create`, and `trigger.started` when it has one."""

        def link(connection: Connection, run_id: str) -> None:
            if not triggers.link_run(connection, row.firing_id, run_id):
                raise Conflict("trigger.started", f"The firing {row.firing_id} has its run already.", retriable=True)
            before = triggers.load_states(connection, [row.model]).get(row.model)
            if before is not None:
                triggers.save_state(connection, before, replace(before, run_id=run_id, revision=before.revision + 1))

        definition, name = run_of(json.loads(row.definition)), firing_name(row.firing_id)
        with plain_errors():
            self._runs.create(definition, by=ACTOR, reason=row.reason[:_MAX_TEXT_CHARS], trigger=name, within=link)

    def _refuse(self, row: FiringRow, error: SkerryError) -> None:
        with plain_errors(), self._db.write() as connection:
            if triggers.refuse_firing(connection, row.firing_id, error.code, error.message[:_MAX_TEXT_CHARS]):
                detail = {"firing": row.firing_id, "code": error.code, "message": error.message[:_MAX_TEXT_CHARS]}
                self._audit.append(connection, ACTOR, "train_trigger.refuse", row.model, detail)


def _unchanged(connection: Connection, model: str, policy: TrainPolicy) -> bool:
    """Whether the policy is still the one that was judged."""
    found = store.find_policy(connection, "train", model)
    return found is not None and found.document == stored_train_policy(policy)
