"""Approved versions and the policies of their models: looked at again and again by one hub of several.

Rules: a version is decided about once; the decision and the rollout that follows from it are one transaction, so
neither a crash nor a second hub makes two. What is approved already when a policy is made is not its business.
Signatures are not counted here: the rollout is made as any other, by whoever asks the signed metadata first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from hub.audit.log import AuditLog
from hub.policies.fields import recoded
from hub.rollouts.approval_decision import Candidate, Choice, Running, choose
from hub.rollouts.approval_policy import DeployPolicy, deploy_policy_of, from_store, stored_deploy_policy
from hub.rollouts.service import RolloutService
from hub.rollouts.state import ENDED
from hub.store import deploy_decisions as decisions
from hub.store import models
from hub.store import policies as store
from hub.store.database import Connection, Database
from hub.store.deploy_decisions import DecisionRow, UndecidedRow
from hub.store.failures import plain_errors
from hub.store.page import PageRequest
from hub.store.policies import PolicyRow
from hub.trust.names import role_of
from shared.clock import Clock
from shared.errors import NotFound, SkerryError

__all__ = ["ACTOR", "Approver", "DeployPolicies", "DeployTest"]

ACTOR = "deploy-policy"
"""Who makes these rollouts, in the audit log and in lists."""
_LOG = logging.getLogger(__name__)
_AT_ONCE = 200
_SIGNATURES_COUNT = 500
_MAX_TEXT_CHARS = 500
_ENDED = frozenset(status.value for status in ENDED)


class Approver(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed a release."""

    actor: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployTest:
    """What would become of a version now. decided: what became of it, if that is decided already."""

    model: str
    version: int
    choice: Choice
    approvers: list[Approver]
    running: Running


class DeployPolicies:
    """Policies as people change them, and the work of the scheduler (`run`)."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, rollouts: RolloutService) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._rollouts = rollouts

    # --- people -----------------------------------------------------------------------------------------------------
    def set(self, model: str, values: Any, actor: str) -> PolicyRow:
        """Make or change a model's policy; errors `model.unknown`, `policy.*`, `filter.*`."""
        policy = deploy_policy_of(values, model)
        with plain_errors(), self._db.write() as connection:
            return self.put(connection, model, policy, actor)

    def put(self, connection: Connection, model: str, policy: DeployPolicy, actor: str) -> PolicyRow:
        """As `set`, within the caller's write transaction."""
        models.get_model(connection, model)
        if policy.action == "rollout":
            recoded("rollout", lambda: self._rollouts.check_plan(policy.plan(model, 1)))
        document, before = stored_deploy_policy(policy), store.find_policy(connection, "deploy", model)
        if before is not None and before.document == document:
            return before
        row = PolicyRow(model=model, document=document, changed_s=self._clock.now(), changed_by=actor)
        if before is None:
            decisions.mark_before(connection, model, row.changed_s)
        decisions.forget_refused(connection, model)
        store.put_policy(connection, "deploy", row)
        self._audit.append(connection, actor, "deploy_policy.set", model, {"policy": json.loads(document)})
        return row

    def remove(self, model: str, actor: str) -> None:
        """Take a model's policy away; error `policy.unknown`."""
        with plain_errors(), self._db.write() as connection:
            self.take_away(connection, model, actor)

    def take_away(self, connection: Connection, model: str, actor: str) -> None:
        """As `remove`, within the caller's write transaction."""
        store.get_policy(connection, "deploy", model)
        store.remove_policy(connection, "deploy", model)
        self._audit.append(connection, actor, "deploy_policy.remove", model)

    def get(self, model: str) -> PolicyRow:
        """A model's policy; errors `model.unknown`, `policy.unknown`."""
        with self._db.read() as connection:
            models.get_model(connection, model)
            return store.get_policy(connection, "deploy", model)

    def list(self, only: frozenset[str] | None = None) -> Sequence[PolicyRow]:
        """All policies; `only`: the models of a token's scope."""
        with self._db.read() as connection:
            return store.list_policies(connection, "deploy", only)

    def decided(self, model: str, page: PageRequest) -> Sequence[DecisionRow]:
        """What became of the model's versions, newest version first; error `model.unknown`."""
        with self._db.read() as connection:
            models.get_model(connection, model)
            return decisions.list_decisions(connection, model, page)

    def of_rollout(self, rollout_id: str) -> DecisionRow | None:
        """The decision that made a rollout, if one did."""
        with self._db.read() as connection:
            return decisions.decided_by_rollout(connection, rollout_id)

    def test(self, model: str, version: int | None = None) -> DeployTest:
        """What would become of a version (the newest) now; `model.unknown`, `policy.unknown`, `version.unknown`."""
        with self._db.read() as connection:
            models.get_model(connection, model)
            policy = from_store(store.get_policy(connection, "deploy", model).document)
            row = decisions.candidate(connection, model, version)
            if row is None:
                raise NotFound("version.unknown", f"There is no such version of {model!r:.60}.")
            running = _running(connection, [model])[model]
            approvers = _approvers(connection, model, row.version)
        choice = choose(policy, _candidate(row), running)
        return DeployTest(model=model, version=row.version, choice=choice, approvers=approvers, running=running)

    # --- work of the scheduler --------------------------------------------------------------------------------------
    def run(self) -> int:
        """Decide about what is new; returns how many rollouts were made. Error `database.unavailable`."""
        with plain_errors(), self._db.read() as connection:
            rows = decisions.undecided(connection, _AT_ONCE)
            names = sorted({row.model for row in rows})
            policies = {row.model: from_store(row.document) for row in store.list_policies(connection, "deploy", names)}
            running = _running(connection, names) if names else {}
        made = 0
        for model, group in groupby(rows, key=lambda row: row.model):
            if model in policies:
                made += self._model(policies[model], list(group), running[model])
        return made

    def _model(self, policy: DeployPolicy, rows: Sequence[UndecidedRow], running: Running) -> int:
        """Decide about a model's versions, newest first; what has to wait keeps the older ones waiting."""
        made = 0
        for row in rows:
            choice = choose(policy, _candidate(row), running)
            if not choice.deploys:
                self._keep(row, "skipped", choice.code, choice.reason, running)
                continue
            try:
                self._deploy(policy, row, choice, running)
            except SkerryError as error:
                if error.retriable or error.code == "rollout.no_devices":
                    _LOG.info("version %d of %s waits to be rolled out: %s", row.version, row.model, error)
                    return made
                _LOG.warning("version %d of %s is not rolled out: %s", row.version, row.model, error)
                self._keep(row, "refused", error.code, error.message[:_MAX_TEXT_CHARS], running)
                continue
            made += 1
            running = msgspec.structs.replace(running, rolling_out=max(running.rolling_out, row.version))
        return made

    def _deploy(self, policy: DeployPolicy, row: UndecidedRow, choice: Choice, running: Running) -> None:
        def keep(connection: Connection, rollout_id: str) -> None:
            if store.get_policy(connection, "deploy", row.model).document != stored_deploy_policy(policy):
                raise NotFound("policy.unknown", "The policy has changed meanwhile.", retriable=True)
            evidence = _evidence(connection, row, running)
            self._add(connection, row, "deployed", "", choice.reason, evidence, rollout_id)

        with plain_errors():
            self._rollouts.create(policy.definition(row.model, row.version), ACTOR, keep)

    def _keep(self, row: UndecidedRow, state: str, code: str, reason: str, running: Running) -> None:
        with plain_errors(), self._db.write() as connection:
            if not decisions.is_decided(connection, row.model, row.version):
                self._add(connection, row, state, code, reason, _evidence(connection, row, running), "")

    def _add(
        self,
        connection: Connection,
        row: UndecidedRow,
        state: str,
        code: str,
        reason: str,
        evidence: dict[str, Any],
        rollout_id: str,
    ) -> None:
        decisions.add_decision(
            connection,
            DecisionRow(
                model=row.model,
                version=row.version,
                at_s=self._clock.now(),
                state=state,
                rollout_id=rollout_id,
                code=code,
                reason=reason,
                evidence=evidence,
            ),
        )
        detail = {"state": state, "code": code, "reason": reason, "rollout_id": rollout_id, **evidence}
        self._audit.append(connection, ACTOR, "deploy_policy.decide", f"{row.model}/{row.version}", detail)


def _running(connection: Connection, names: Sequence[str]) -> dict[str, Running]:
    served = decisions.newest_served(connection, names)
    rolling = decisions.newest_rolling_out(connection, names, _ENDED)
    return {name: Running(served=served.get(name, 0), rolling_out=rolling.get(name, 0)) for name in names}


def _candidate(row: UndecidedRow) -> Candidate:
    lineage = json.loads(row.manifest).get("lineage") or {}
    return Candidate(
        version=row.version,
        status=row.status,
        available=row.available,
        run=str(lineage.get("training_run") or ""),
        gate_passed=row.gate_passed,
    )


def _evidence(connection: Connection, row: UndecidedRow, running: Running) -> dict[str, Any]:
    approvers = msgspec.to_builtins(_approvers(connection, row.model, row.version))
    return {"approvers": approvers, "run": _candidate(row).run, "running": msgspec.to_builtins(running)}


def _approvers(connection: Connection, model: str, version: int) -> list[Approver]:
    """Who signed the release of a version, first signature first."""
    found: list[Approver] = []
    for actor, text in decisions.signatures_over(connection, role_of(model), _SIGNATURES_COUNT):
        detail = json.loads(text)
        if detail.get("model") == model and detail.get("version") == version and not detail.get("revokes"):
            found.append(Approver(actor=actor, key_id=str(detail.get("key_id", ""))))
    return found[::-1]
