"""Gate runs: measure a version on held-out data, judge it by its model's policy, keep the evidence, move its status.

A version passes only if every check passes and nothing about it could not be measured. An approved version keeps its
status whatever a later run says; the run is recorded all the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore
from hub.gates.policy import Policy, default_policy, needs_production, parse_policy
from hub.gates.protocol import BundleFile, Measured, Response
from hub.gates.runner import GateRunner
from hub.gates.verdict import CheckResult, judge
from hub.store import blobs_index, models, registry
from hub.store.blobs_index import DatasetRow
from hub.store.database import Connection, Database
from hub.store.models import PRODUCTION, ModelRow
from hub.store.page import PageRequest
from hub.store.registry import GateRow, Status, VersionRow
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput

__all__ = ["GateService"]


class GateService:
    """Runs gates. `min_accuracy` (0 to 1) is what the default policy demands."""

    def __init__(
        self, db: Database, clock: Clock, audit: AuditLog, blobs: BlobStore, runner: GateRunner, min_accuracy: float
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._blobs = blobs
        self._runner = runner
        self._default = default_policy(min_accuracy)

    def policy(self, model: ModelRow) -> Policy:
        """The policy that a model's versions are held to."""
        return parse_policy(model.gate) if model.gate else self._default

    def evaluate(self, model: str, version: int, dataset_sha256: str, actor: str) -> GateRow:
        """Run the gate of a version; takes seconds to minutes.

        Errors: `model.unknown`, `version.unknown`, `version.withdrawn`, `version.collected`, `dataset.unknown`,
        `dataset.collected`, `dataset.*`, `gate.dataset_mismatch`, `gate.busy`, `gate.policy_changed`.
        """
        with self._db.read() as connection:
            owner = models.get_model(connection, model)
            candidate = registry.get_version(connection, model, version)
            dataset = blobs_index.get_dataset(connection, dataset_sha256)
            policy = self.policy(owner)
            production = _production(connection, model) if needs_production(policy) else None
        _check_usable(candidate, dataset)
        response = self._measure(candidate, production, dataset)
        if response.refused is not None:
            raise InvalidInput(response.refused.code, response.refused.message, hint=response.refused.hint)
        return self._record(owner, candidate, production, dataset, policy, response, actor)

    def _measure(self, candidate: VersionRow, production: VersionRow | None, dataset: DatasetRow) -> Response:
        other = production if production is not None and production.version != candidate.version else None
        response = self._runner.measure(
            self._blobs.local_path(dataset.sha256),
            self._file(candidate),
            self._file(other) if other is not None and other.available else None,
        )
        if production is not None and other is None:
            return msgspec.structs.replace(response, production=response.candidate)
        return response

    def _file(self, row: VersionRow) -> BundleFile:
        return BundleFile(
            path=str(self._blobs.local_path(row.bundle_sha256)), sha256=row.bundle_sha256, bytes=row.bundle_bytes
        )

    def _record(
        self,
        owner: ModelRow,
        candidate: VersionRow,
        production: VersionRow | None,
        dataset: DatasetRow,
        policy: Policy,
        response: Response,
        actor: str,
    ) -> GateRow:
        measured = response.candidate
        base = None if production is None else (response.production or Measured())
        checks = judge(policy, measured.values, None if base is None else base.values)
        row = GateRow(
            gate_id=0,
            model=owner.model,
            version=candidate.version,
            dataset_sha256=dataset.sha256,
            dataset_name=dataset.name,
            passed=measured.problem is None and all(check.passed for check in checks),
            metrics=_evidence(policy, measured, production, base),
            checks=msgspec.to_builtins([*checks, *_problems(measured)]),
            at_s=self._clock.now(),
            by=actor,
        )
        with self._db.write() as connection:
            if models.get_model(connection, owner.model).gate != owner.gate:
                raise Conflict(
                    "gate.policy_changed", "The gate's policy changed meanwhile.", hint="Run again.", retriable=True
                )
            return self._store(connection, row)

    def _store(self, connection: Connection, row: GateRow) -> GateRow:
        stored = registry.insert_gate_result(connection, row)
        version = registry.get_version(connection, row.model, row.version)
        if version.status in (Status.REGISTERED, Status.GATED, Status.REJECTED):
            to = Status.GATED if row.passed else Status.REJECTED
            registry.set_status(connection, version, to, row.at_s)
        detail = {"passed": row.passed, "dataset_sha256": row.dataset_sha256, "gate_id": stored.gate_id}
        self._audit.append(connection, row.by, "version.gate", f"{row.model}/{row.version}", detail)
        return stored

    def page(self, model: str, version: int, page: PageRequest) -> list[GateRow]:
        """Gate runs of a version, newest first; error `version.unknown`."""
        with self._db.read() as connection:
            registry.get_version(connection, model, version)
            return registry.list_gate_results(connection, model, version, page)


def _production(connection: Connection, model: str) -> VersionRow | None:
    version = models.alias_version(connection, model, PRODUCTION)
    return None if version is None else registry.get_version(connection, model, version)


def _check_usable(candidate: VersionRow, dataset: DatasetRow) -> None:
    if candidate.status is Status.WITHDRAWN:
        raise Conflict("version.withdrawn", f"Version {candidate.version} of {candidate.model} is withdrawn.")
    if not candidate.available:
        raise Conflict("version.collected", "The bundle of this version is gone.", hint="Register it again.")
    if not dataset.available:
        raise Conflict("dataset.collected", "The data set's bytes are gone.", hint="Upload the same file again.")


def _problems(measured: Measured) -> list[CheckResult]:
    """What kept a version from being measured, shown beside the checks."""
    if measured.problem is None:
        return []
    reason = f"{measured.problem.message} [{measured.problem.code}]"
    return [CheckResult(metric="evaluation", op="", bound=None, actual=None, passed=False, reason=reason)]


def _evidence(
    policy: Policy, measured: Measured, production: VersionRow | None, base: Measured | None
) -> dict[str, Any]:
    out: dict[str, Any] = {"values": measured.values, "policy": policy, "problem": measured.problem}
    if production is not None and base is not None:
        out["production"] = {"version": production.version, "values": base.values, "problem": base.problem}
    plain: dict[str, Any] = msgspec.to_builtins(out)
    return plain
