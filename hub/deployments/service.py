"""Deployments: an approved version to all devices that a filter chooses and that can run it, at once.

Who cannot take it is skipped and named with a reason before anything is sent. Nothing is deployed that the devices
would refuse: the release must have its signatures and be the same bytes that the registry knows.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from hub.audit.log import AuditLog
from hub.deployments.approval import Approvals, check_approved
from hub.deployments.assignments import AssignmentService
from hub.deployments.compatibility import Compatibility
from hub.filters.service import DeviceFilters
from hub.store import deployments as store
from hub.store import registry
from hub.store.database import Connection, Database
from hub.store.deployments import DeploymentRow, DeviceProgress, Downloads, Failure, Skip
from hub.store.device_filter import Condition
from hub.store.page import PageRequest
from shared.bundle.manifest import Manifest
from shared.clock import Clock
from shared.errors import Conflict

__all__ = ["Approvals", "DeploymentDetail", "DeploymentPlan", "DeploymentService", "PROGRESS"]

PROGRESS = ("pending", "sent", "installing", "succeeded", "failed")
_EXAMPLES_COUNT = 100
_REASONS_COUNT = 20
_DEVICES_PER_REASON_COUNT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """What a deployment does. `deployment_id` empty: a dry run. `skipped`: by reason; `examples`: some of those."""

    deployment_id: str
    model: str
    version: int
    devices: int
    skipped: dict[str, int]
    examples: list[Skip]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDetail:
    """How far a deployment is. `superseded`: devices whose assignment was replaced or taken back.

    progress: devices by `PROGRESS`. states: those that are installing, by their own state.
    """

    deployment: DeploymentRow
    progress: dict[str, int]
    states: dict[str, int]
    superseded: int
    failures: list[Failure]
    downloads: Downloads


class DeploymentService:
    """Creates, shows and cancels deployments. `wake` is called after something new is to be published."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        approvals: Approvals,
        assignments: AssignmentService,
        compatibility: Compatibility,
        filters: DeviceFilters,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._approvals = approvals
        self._assignments = assignments
        self._compatibility = compatibility
        self._filters = filters
        self._wake = wake
        self._made: Callable[[DeploymentPlan, float], None] | None = None

    def on_made(self, made: Callable[[DeploymentPlan, float], None]) -> None:
        """Have `made` told of each deployment, with when it was begun; it must not block."""
        self._made = made

    def create(
        self, model: str, version: int, filter_text: str, note: str, actor: str, *, dry_run: bool = False
    ) -> DeploymentPlan:
        """Assign `version` to the chosen devices, or only say what that would do.

        Errors: `filter.*`, `version.unknown`, `deployment.not_approved`, `deployment.withdrawn`,
        `deployment.digest_mismatch`, `version.collected`, `deployment.no_devices`.
        """
        began_s = self._clock.now()
        check_approved(self._db, self._approvals, model, version)
        if dry_run:
            with self._db.read() as connection:
                selection = self._filters.condition(connection, filter_text)
                return self._plan(connection, selection, model, version)[0]
        with self._db.write() as connection:
            selection = self._filters.condition(connection, filter_text)
            plan, chosen = self._plan(connection, selection, model, version)
            if not plan.devices:
                raise _nobody(plan)
            plan = self._carry_out(connection, plan, chosen, filter_text, note, actor)
        if self._made is not None:
            self._made(plan, began_s)
        self._wake()
        return plan

    def _plan(
        self, connection: Connection, selection: Condition, model: str, version: int
    ) -> tuple[DeploymentPlan, Condition]:
        self._assignments.release(connection, model, version)
        manifest = msgspec.json.decode(registry.get_version(connection, model, version).manifest, type=Manifest)
        unfit = self._compatibility.unfit(store.profiles_of(connection, selection), manifest.requirements)
        reason = store.skip_reason(model, unfit)
        counts = store.skip_counts(connection, selection, reason)
        plan = DeploymentPlan(
            deployment_id="",
            model=model,
            version=version,
            devices=counts.pop("", 0),
            skipped=counts,
            examples=store.skip_examples(connection, selection, reason, _EXAMPLES_COUNT) if counts else [],
        )
        return plan, store.eligible(selection, reason)

    def _carry_out(
        self, connection: Connection, plan: DeploymentPlan, chosen: Condition, filter_text: str, note: str, actor: str
    ) -> DeploymentPlan:
        deployment_id = f"d-{secrets.token_hex(6)}"
        count = 0
        for some in store.chosen_devices(connection, chosen):
            count += self._assignments.assign(connection, some, plan.model, plan.version, deployment_id)
        row = DeploymentRow(
            deployment_id=deployment_id,
            model=plan.model,
            version=plan.version,
            filter=filter_text,
            devices=count,
            skipped=plan.skipped,
            created_s=self._clock.now(),
            created_by=actor,
            note=note,
            cancelled_s=None,
        )
        store.insert_deployment(connection, row)
        detail = {"model": plan.model, "version": plan.version, "filter": filter_text, "devices": count, "note": note}
        self._audit.append(connection, actor, "deployment.create", deployment_id, detail)
        return DeploymentPlan(
            deployment_id=deployment_id,
            model=plan.model,
            version=plan.version,
            devices=count,
            skipped=plan.skipped,
            examples=plan.examples,
        )

    def cancel(self, deployment_id: str, reason: str, actor: str) -> DeploymentDetail:
        """Take it back from devices that do not serve it yet; those keep what they serve. `deployment.unknown`."""
        with self._db.write() as connection:
            row = store.get_deployment(connection, deployment_id)
            if row.cancelled_s is None:
                taken_back = self._assignments.withdraw_pending(connection, deployment_id)
                store.mark_cancelled(connection, deployment_id, self._clock.now())
                detail = {"reason": reason, "devices": taken_back}
                self._audit.append(connection, actor, "deployment.cancel", deployment_id, detail)
        self._wake()
        return self.get(deployment_id)

    def get(self, deployment_id: str) -> DeploymentDetail:
        """How far a deployment is; error `deployment.unknown`."""
        with self._db.read() as connection:
            row = store.get_deployment(connection, deployment_id)
            counts, states = store.progress_counts(connection, deployment_id)
            failures = store.list_failures(connection, deployment_id, _REASONS_COUNT, _DEVICES_PER_REASON_COUNT)
            downloads = store.download_totals(connection, deployment_id)
        return DeploymentDetail(
            deployment=row,
            progress={name: counts.get(name, 0) for name in PROGRESS},
            states=states,
            superseded=row.devices - sum(counts.values()),
            failures=failures,
            downloads=downloads,
        )

    def page(
        self, page: PageRequest, model: str | None = None, only: frozenset[str] | None = None
    ) -> list[DeploymentRow]:
        """Deployments, newest first; `only`: the models of a token's scope."""
        with self._db.read() as connection:
            return store.list_deployments(connection, page, model, only)

    def devices(self, deployment_id: str, page: PageRequest, progress: str | None = None) -> list[DeviceProgress]:
        """The devices of a deployment by id, all or with one progress; error `deployment.unknown`."""
        with self._db.read() as connection:
            store.get_deployment(connection, deployment_id)
            return store.list_progress(connection, deployment_id, page, () if progress is None else (progress,))


def _nobody(plan: DeploymentPlan) -> Conflict:
    reasons = ", ".join(f"{count} for {code}" for code, count in sorted(plan.skipped.items()))
    return Conflict(
        "deployment.no_devices",
        f"No device would get version {plan.version} of {plan.model}."
        + (f" Skipped: {reasons}." if reasons else " The filter chooses none."),
        hint="`skerry devices list --filter …` shows what a filter chooses.",
        detail={"skipped": plan.skipped, "examples": [example.device_id for example in plan.examples[:10]]},
    )
