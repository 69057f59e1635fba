"""A tick's actions, carried out in its transaction: through the assignments, a bounded number of devices at a time.

What is not carried out now is asked for again by the next tick, so a bound loses nothing.
"""

from __future__ import annotations

import msgspec

from hub.deployments.assignments import AssignmentService
from hub.deployments.desired import Conditions
from hub.rollouts.plan import Mode, Plan
from hub.rollouts.state import Action, Assign, Retry, RollBack, Switch, Withdraw
from hub.store import rollout_actions as store
from hub.store.assignments import Terms
from hub.store.database import Connection
from hub.store.device_filter import Condition
from hub.store.rollout_actions import EXPOSED, UNDER_WAY, Giver, Moment
from hub.store.rollouts import RolloutRow
from shared.wire.down import Window

__all__ = ["carry_out"]


def carry_out(
    connection: Connection,
    assignments: AssignmentService,
    row: RolloutRow,
    actions: tuple[Action, ...],
    at: Moment,
    outranking: list[int],
    limit: int,
) -> int:
    """Do it, for at most `limit` devices or what the tick allows, if that is more; returns how many devices.

    Errors: what forbids the version by now, `deployment.*`, `version.*`; nothing must be committed then.
    """
    give = _giver(assignments, row)
    done = 0
    for action in actions:
        match action:
            case Assign(group_no=group_no, limit=most, mode=mode, zones=zones):
                done += store.assign_waiting(
                    connection, row, at, give,
                    group_no=group_no, limit=most, mode=mode.value, zones=zones, outranking=outranking,
                )  # fmt: skip
            case Switch(group_no=group_no, limit=most):
                done += store.switch_held(connection, row, at, give, group_no=group_no, limit=most)
            case Retry(group_no=group_no, limit=most, mode=mode):
                done += store.retry_failed(connection, row, at, give, group_no=group_no, limit=most, mode=mode.value)
            case Withdraw(group_no=group_no, also_succeeded=also):
                states = (*UNDER_WAY, "succeeded") if also else UNDER_WAY
                done += _return(connection, row, at, give, group_no, states, limit - done, confirm=False)
            case RollBack(group_no=group_no):
                done += _return(connection, row, at, give, group_no, EXPOSED, limit - done, confirm=True)
    return done


def _return(
    connection: Connection, row: RolloutRow, at: Moment, give: Giver, group_no: int, states: tuple[str, ...],
    limit: int, *, confirm: bool,
) -> int:  # fmt: skip
    done = 0
    for version in store.previous_versions(connection, row, group_no, states):
        if done >= limit:
            break
        done += store.return_some(
            connection, row, at, give,
            group_no=group_no, states=states, version=version, limit=limit - done, confirm=confirm,
        )  # fmt: skip
    return done


def _giver(assignments: AssignmentService, row: RolloutRow) -> Giver:
    """Assigns versions of the rollout's model under its name; only its own version comes with its conditions."""
    plan = row.plan

    def give(connection: Connection, selection: Condition, version: int, mode: str) -> int:
        terms = _terms(plan, mode) if version == plan.version else Terms()
        return assignments.assign(connection, selection, plan.model, version, row.rollout_id, terms)

    return give


def _terms(plan: Plan, mode: str) -> Terms:
    conditions = Conditions()
    if mode == Mode.LIVE and plan.window is not None:
        window = Window(cron=plan.window.cron, duration_s=plan.window.duration_s, timezone=plan.window.timezone)
        conditions = msgspec.structs.replace(conditions, window=window)
    if mode == Mode.SHADOW and plan.shadow is not None:
        conditions = msgspec.structs.replace(conditions, shadow=plan.shadow)
    text = "" if conditions == Conditions() else msgspec.json.encode(conditions).decode()
    return Terms(mode=mode, conditions=text)
