"""Rollouts as people ask for them: planned without effect, created, commanded, listed.

Everything is checked before there is a rollout: the definition, the filters, the signatures of the version, and that
somebody measures what its gates demand. What happens afterwards is the engine's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from hub.audit.log import AuditLog
from hub.deployments.approval import Approvals, check_approved
from hub.deployments.assignments import AssignmentService
from hub.deployments.compatibility import Compatibility
from hub.filters.language import parse_filter
from hub.rollouts.cohort import coefficients
from hub.rollouts.definition import Definition, parse_definition
from hub.rollouts.drafting import Forecast, forecast, thresholds_for
from hub.rollouts.engine import RolloutEngine
from hub.rollouts.membership import Memberships
from hub.rollouts.plan import Plan
from hub.rollouts.planning import plan_of
from hub.rollouts.state import Command, CommandKind, Rollout, fresh
from hub.store import registry, rollout_members
from hub.store import rollouts as store
from hub.store.database import Connection, Database
from hub.store.filter_nodes import references
from hub.store.page import PageRequest
from hub.store.rollouts import RolloutRow, Summary
from shared import canonical
from shared.clock import Clock
from shared.errors import Conflict, InvalidInput

__all__ = ["Planned", "RolloutService"]

_HALF_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A rollout as it was, or would be, made. rollout_id empty: a dry run."""

    rollout_id: str
    plan: Plan
    forecast: Forecast


class RolloutService:
    """Creates, commands and lists rollouts. measured: the metrics that somebody measures."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        approvals: Approvals,
        assignments: AssignmentService,
        compatibility: Compatibility,
        memberships: Memberships,
        engine: RolloutEngine,
        measured: frozenset[str],
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._approvals = approvals
        self._assignments = assignments
        self._compatibility = compatibility
        self._memberships = memberships
        self._engine = engine
        self._measured = measured
        self._made: Callable[[Planned, float], None] | None = None

    def on_made(self, made: Callable[[Planned, float], None]) -> None:
        """Have `made` told of each rollout, with when it was begun; it must not block."""
        self._made = made

    # --- creating -----------------------------------------------------------------------------------------------------
    def plan(self, text: bytes) -> Planned:
        """What a definition (YAML or JSON) would do now; errors as for `create`."""
        _, plan = self._checked(text)
        with self._db.read() as connection:
            return Planned(rollout_id="", plan=plan, forecast=self._draw(connection, plan)[0])

    def create(
        self, text: bytes, actor: str, within: Callable[[Connection, str], None] = lambda _connection, _rollout_id: None
    ) -> Planned:
        """Make a rollout of a definition; it starts at the engine's next tick, or at its time.

        within: called in the transaction that makes it, with its id: what it writes stands or falls with the rollout.

        Errors: `rollout.invalid`, `rollout.too_large`, `rollout.unmeasured`, `rollout.no_devices`, `filter.*`,
        `group.*`, `version.unknown`, `version.collected`, `deployment.*` for a version that cannot be assigned.
        """
        definition, plan = self._checked(text)
        rollout_id, now_s = f"r-{secrets.token_hex(6)}", self._clock.now()
        with self._db.write() as connection:
            self._assignments.release(connection, plan.model, plan.version)
            seen, row, thresholds = self._draw(connection, plan, definition, rollout_id, actor, now_s)
            if not seen.devices:
                raise _nobody(plan, seen)
            number = store.insert_rollout(connection, row, thresholds)
            row = store.load_rollout(connection, number)
            membership = self._memberships.of(connection, plan)
            rollout_members.join(connection, row, membership, thresholds, now_s)
            detail = {"model": plan.model, "version": plan.version, "devices": seen.devices, "note": plan.note}
            self._audit.append(connection, actor, "rollout.create", rollout_id, detail)
            within(connection, rollout_id)
        made = Planned(rollout_id=rollout_id, plan=plan, forecast=seen)
        if self._made is not None:
            self._made(made, now_s)
        return made

    def _checked(self, text: bytes) -> tuple[Definition, Plan]:
        definition = parse_definition(text)
        plan = plan_of(definition)
        self.check_plan(plan)
        check_approved(self._db, self._approvals, plan.model, plan.version)
        return definition, plan

    def check_plan(self, plan: Plan) -> None:
        """Return if a plan could be carried out on this hub, for whatever version; `filter.*`, `rollout.unmeasured`."""
        for filter_text in filter(None, (plan.targets.filter, *(group.filter for group in plan.groups))):
            parse_filter(filter_text)
        unmeasured = sorted({gate.metric for gate in plan.gates} - self._measured)
        if unmeasured:
            raise InvalidInput(
                "rollout.unmeasured",
                f"Nobody measures {', '.join(unmeasured)} on this hub, so the gate could never pass.",
                hint=f"Measured are: {', '.join(sorted(self._measured))}.",
                detail={"metrics": unmeasured},
            )

    def _draw(
        self,
        connection: Connection,
        plan: Plan,
        definition: Definition | None = None,
        rollout_id: str = "",
        actor: str = "",
        now_s: float = 0.0,
    ) -> tuple[Forecast, RolloutRow, list[int | None]]:
        """The rollout that would come of a plan, with hash numbers of its own: the same as were shown before."""
        hashes = _mixed(plan)
        membership = self._memberships.of(connection, plan)
        thresholds = thresholds_for(connection, plan, membership, *hashes)
        bundle_bytes = registry.get_version(connection, plan.model, plan.version).bundle_bytes
        seen = forecast(connection, plan, membership, hashes, thresholds, self._compatibility, bundle_bytes)
        row = RolloutRow(
            rollout_no=0,
            rollout=Rollout(rollout_id=rollout_id, created_s=int(now_s), plan=plan, progress=fresh(plan)),
            definition=canonical.dumps(msgspec.to_builtins(definition)).decode(),
            changes=1,
            hash_a=hashes[0],
            hash_b=hashes[1],
            marks=(),
            created_s=now_s,
            created_by=actor,
        )
        return seen, row, thresholds

    # --- commanding ---------------------------------------------------------------------------------------------------
    def pause(self, rollout_id: str, actor: str, note: str = "") -> None:
        """Assign nothing more until it is resumed; errors of all commands: `rollout.unknown`, `.state`, `.busy`."""
        self._command(CommandKind.PAUSE, rollout_id, actor, note)

    def resume(self, rollout_id: str, actor: str, note: str = "") -> None:
        """Go on; a group that failed gets another chance."""
        self._command(CommandKind.RESUME, rollout_id, actor, note)

    def approve(self, rollout_id: str, actor: str, note: str = "") -> None:
        """Let what waits for a person happen."""
        self._command(CommandKind.APPROVE, rollout_id, actor, note)

    def abort(self, rollout_id: str, actor: str, note: str = "") -> None:
        """Take it back from devices that have not finished; those that succeeded keep it."""
        self._command(CommandKind.ABORT, rollout_id, actor, note)

    def roll_back(self, rollout_id: str, actor: str, note: str = "", group_no: int | None = None) -> None:
        """Return the devices of one group, or of all, to what each had before; `rollout.group`."""
        self._command(CommandKind.ROLL_BACK, rollout_id, actor, note, group_no)

    def finish(self, rollout_id: str, actor: str, note: str = "") -> None:
        """Stop giving it to devices that join later."""
        self._command(CommandKind.FINISH, rollout_id, actor, note)

    def _command(self, kind: CommandKind, rollout_id: str, actor: str, note: str, group_no: int | None = None) -> None:
        self._engine.apply(rollout_id, Command(kind=kind, group_no=group_no, by=actor, note=note))

    # --- listing ------------------------------------------------------------------------------------------------------
    def page(
        self, page: PageRequest, model: str | None = None, only: frozenset[str] | None = None, active: bool = False
    ) -> list[Summary]:
        """Rollouts, newest first; `only`: the models of a token's scope; `active`: those that have not ended."""
        with self._db.read() as connection:
            return store.list_rollouts(connection, page, model, only, active)

    def users_of_group(self, connection: Connection, name: str) -> list[str]:
        """The rollouts that go on and whose targets or groups name a saved group."""
        found = []
        for number in store.active_numbers(connection):
            row = store.load_rollout(connection, number)
            texts = filter(None, (row.plan.targets.filter, *(group.filter for group in row.plan.groups)))
            named = {other for text in texts for other in references(parse_filter(text))}
            if name == row.plan.targets.group or name in named:
                found.append(row.rollout_id)
        return found


def _mixed(plan: Plan) -> tuple[int, int]:
    """Hash numbers that follow from the plan alone, so that what a dry run shows is what is made."""
    digest = hashlib.sha256(msgspec.json.encode(plan)).digest()
    return coefficients(int.from_bytes(digest[:_HALF_BYTES]), int.from_bytes(digest[_HALF_BYTES:]))


def _nobody(plan: Plan, seen: Forecast) -> Conflict:
    reasons = ", ".join(f"{count} for {code}" for code, count in sorted(seen.skipped.items()))
    return Conflict(
        "rollout.no_devices",
        f"No device would get version {plan.version} of {plan.model}."
        + (f" Skipped: {reasons}." if reasons else " The targets choose none."),
        hint="`skerry devices list --filter …` shows what a filter chooses.",
        detail={"skipped": seen.skipped, "examples": [example.device_id for example in seen.examples[:10]]},
    )
