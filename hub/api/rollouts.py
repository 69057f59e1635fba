"""Rollouts: planned, created, commanded, watched; and why a device has what it has.

The definition is the body itself, YAML or JSON, as people keep it in files. Who watches asks with `If-None-Match`: 304
costs one look-up.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.body import RawBody
from hub.api.edge import BodyLimits
from hub.api.paging import Listing, Page, paged
from hub.api.words import Words
from hub.blobs.ranges import entity_tag, matches
from hub.rollouts.counts import DeviceState
from hub.rollouts.definition import parse_definition
from hub.rollouts.drafting import LinkShare, Wave
from hub.rollouts.service import Planned
from hub.rollouts.views import GroupView, RolloutView
from hub.store.deployments import Skip
from hub.store.rollout_views import DeviceRow
from hub.store.rollouts import EventRow, Summary
from hub.wiring import Hub
from shared.ids import parse_device_id, parse_model_name
from shared.limits import MAX_ROLLOUT_BYTES

router = APIRouter(tags=["rollouts"])
Reader = Annotated[Principal, Depends(require(Permission.ROLLOUTS_READ))]
Operator = Annotated[Principal, Depends(require(Permission.ROLLOUTS_MANAGE))]
BODY_LIMITS: BodyLimits = {("POST", "/v1/rollouts"): MAX_ROLLOUT_BYTES}
_DEFINITION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
Command = Literal["pause", "resume", "approve", "abort", "rollback", "finish"]


class ForecastAnswer(BaseModel):
    """Who gets it, in which waves, over which links. `outside`: they could get it, but no group has them."""

    devices: int
    waves: list[Wave]
    links: list[LinkShare]
    skipped: dict[str, int]
    examples: list[Skip]
    outside: int


class PlannedAnswer(BaseModel):
    """A rollout as it was made; `rollout_id` null: a dry run. `plan`: the definition with everything filled in."""

    rollout_id: str | None
    plan: dict[str, Any]
    forecast: ForecastAnswer


class ReasonAnswer(BaseModel):
    """Why: a stable code, a sentence, and the numbers behind it."""

    code: str
    message: str
    numbers: dict[str, int]


class GroupAnswer(BaseModel):
    """One group. `counts`: devices by state, and parts of them; `members`: those on whom the group is judged."""

    group_no: int
    name: str
    status: str
    percent_bp: int | None
    waits_for: ReasonAnswer | None
    members: int
    counts: dict[str, Any]


class GateAnswer(BaseModel):
    """One gate as it was judged last; `profile` empty: the whole fleet."""

    gate_no: int
    metric: str
    profile: str
    verdict: str
    reason: ReasonAnswer


class RolloutFailureAnswer(BaseModel):
    """A reason for failure, in the words of one device, and some of the devices."""

    reason_code: str
    reason: str
    devices: int
    examples: list[str]


class RolloutAnswer(BaseModel):
    """All of a rollout. `changes` grows with whatever is to be seen. `elapsed_s`: for how long the engine moved it."""

    rollout_id: str
    model: str
    version: int
    status: str
    reason: ReasonAnswer | None
    waits_for: ReasonAnswer | None
    created_s: float
    created_by: str
    changes: int
    elapsed_s: int
    definition: dict[str, Any]
    plan: dict[str, Any]
    groups: list[GroupAnswer]
    gates: list[GateAnswer]
    failures: list[RolloutFailureAnswer]


class RolloutCommand(BaseModel):
    """Why it is done. `group_no`, for a roll-back only: one group instead of all that were started."""

    model_config = ConfigDict(extra="forbid")
    reason: Words = ""
    group_no: int | None = None


class MembershipAnswer(BaseModel):
    """The device in one rollout; `current`: that rollout assigned the device last."""

    rollout_id: str
    version: int
    group_no: int
    group: str
    state: str
    current: bool
    attempts: int
    reason_code: str
    changed_s: float


class ModelExplanationAnswer(BaseModel):
    """Why the device has the version that it has, and what it waits for; null: nothing is outstanding."""

    model: str
    serves: int | None
    wanted: int | None
    deployment_id: str | None
    because: ReasonAnswer
    waits_for: ReasonAnswer | None
    rollouts: list[MembershipAnswer]


class ExplanationAnswer(BaseModel):
    """All models of a device, or the one that was asked for."""

    device_id: str
    models: list[ModelExplanationAnswer]


def _planned(planned: Planned) -> PlannedAnswer:
    seen = planned.forecast
    return PlannedAnswer(
        rollout_id=planned.rollout_id or None,
        plan=msgspec.to_builtins(planned.plan),
        forecast=ForecastAnswer(
            devices=seen.devices,
            waves=seen.waves,
            links=seen.links,
            skipped=seen.skipped,
            examples=seen.examples,
            outside=seen.outside,
        ),
    )


def _reason(value: Any) -> ReasonAnswer | None:
    return None if value is None else ReasonAnswer(**msgspec.to_builtins(value))


def _group(view: GroupView) -> GroupAnswer:
    return GroupAnswer(
        group_no=view.group_no,
        name=view.plan.name,
        status=view.progress.status.value,
        percent_bp=view.plan.percent_bp,
        waits_for=_reason(view.progress.waits_for),
        members=view.counts.members,
        counts=msgspec.to_builtins(view.counts),
    )


def _failures(view: RolloutView) -> list[RolloutFailureAnswer]:
    found: dict[str, RolloutFailureAnswer] = {}
    for row in view.failures:
        answer = found.setdefault(
            row.reason_code,
            RolloutFailureAnswer(reason_code=row.reason_code, reason=row.reason, devices=row.devices, examples=[]),
        )
        answer.examples.append(row.device_id)
    return list(found.values())


def _rollout(view: RolloutView) -> RolloutAnswer:
    row, progress = view.row, view.progress
    return RolloutAnswer(
        rollout_id=row.rollout_id,
        model=view.plan.model,
        version=view.plan.version,
        status=progress.status.value,
        reason=_reason(progress.reason),
        waits_for=_reason(progress.waits_for),
        created_s=row.created_s,
        created_by=row.created_by,
        changes=row.changes,
        elapsed_s=progress.clock.elapsed_s,
        definition=msgspec.json.decode(row.definition),
        plan=msgspec.to_builtins(view.plan),
        groups=[_group(group) for group in view.groups],
        gates=[GateAnswer(**msgspec.to_builtins(gate)) for gate in view.gates],
        failures=_failures(view),
    )


def _within_scope(hub: Hub, rollout_id: str, principal: Principal) -> int:
    changes, model = hub.rollout_views.changes(rollout_id)
    principal.check_model(model)
    return changes


@router.post("/v1/rollouts", status_code=201, openapi_extra=_DEFINITION)
def create_rollout(
    hub: HubDep,
    body: RawBody,
    response: Response,
    principal: Operator,
    dry_run: Annotated[bool, Query(description="Only say what would happen.")] = False,
) -> PlannedAnswer:
    """Make a rollout of a definition (YAML or JSON), or only say what it would do."""
    principal.check_model(parse_definition(body).model)
    if dry_run:
        response.status_code = 200
        return _planned(hub.rollouts.plan(body))
    return _planned(hub.rollouts.create(body, principal.name))


@router.get("/v1/rollouts", response_model=Listing[Summary])
def list_rollouts(
    hub: HubDep,
    page: Page,
    principal: Reader,
    model: Annotated[str | None, Query(description="Only of this model.")] = None,
    active: Annotated[bool, Query(description="Only those that have not ended.")] = False,
) -> dict[str, Any]:
    """Rollouts, newest first; with a token for some models, theirs."""
    rows = hub.rollouts.page(page, model, principal.models, active)
    return paged(rows, page, lambda row: (row.created_s, row.rollout_id), lambda row: row)


@router.get("/v1/rollouts/{rollout_id}", response_model=RolloutAnswer)
def get_rollout(
    hub: HubDep, rollout_id: str, principal: Reader, if_none_match: Annotated[str | None, Header()] = None
) -> Any:
    """How a rollout stands; 304 when nothing is new since the ETag in If-None-Match."""
    tag = entity_tag(str(_within_scope(hub, rollout_id, principal)))
    if matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    answer = _rollout(hub.rollout_views.get(rollout_id))
    headers = {"ETag": entity_tag(str(answer.changes))}
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


@router.get("/v1/rollouts/{rollout_id}/devices", response_model=Listing[DeviceRow])
def list_rollout_devices(
    hub: HubDep,
    rollout_id: str,
    page: Page,
    principal: Reader,
    state: Annotated[DeviceState | None, Query(description="Only devices in this state.")] = None,
    group: Annotated[int | None, Query(description="Only devices of this group, counted from 0.")] = None,
) -> dict[str, Any]:
    """The devices of a rollout, by id."""
    _within_scope(hub, rollout_id, principal)
    rows = hub.rollout_views.devices(rollout_id, page, None if state is None else state.value, group)
    return paged(rows, page, lambda row: (row.device_id,), lambda row: row)


@router.get("/v1/rollouts/{rollout_id}/events", response_model=Listing[EventRow])
def list_rollout_events(hub: HubDep, rollout_id: str, page: Page, principal: Reader) -> dict[str, Any]:
    """What happened, newest first, with the numbers that decided it."""
    _within_scope(hub, rollout_id, principal)
    rows = hub.rollout_views.events(rollout_id, page)
    return paged(rows, page, lambda row: (row.event_no,), lambda row: row)


@router.post("/v1/rollouts/{rollout_id}/{command}")
def command_rollout(
    hub: HubDep, rollout_id: str, command: Command, wanted: RolloutCommand, principal: Operator
) -> RolloutAnswer:
    """Pause, resume, approve what waits for a person, abort, roll back, or stop keeping it for new devices."""
    _within_scope(hub, rollout_id, principal)
    if command == "rollback":
        hub.rollouts.roll_back(rollout_id, principal.name, wanted.reason, wanted.group_no)
    else:
        getattr(hub.rollouts, command)(rollout_id, principal.name, wanted.reason)
    return _rollout(hub.rollout_views.get(rollout_id))


@router.get("/v1/devices/{device_id}/explain")
def explain_device(
    hub: HubDep,
    device_id: str,
    principal: Reader,
    model: Annotated[str | None, Query(description="Only this model.")] = None,
) -> ExplanationAnswer:
    """Why a device has the versions that it has, and what it waits for."""
    wanted = None if model is None else parse_model_name(model)
    found = hub.rollout_views.explain(parse_device_id(device_id), wanted)
    return ExplanationAnswer(
        device_id=found.device_id,
        models=[
            ModelExplanationAnswer(
                model=one.model,
                serves=one.serves,
                wanted=one.wanted,
                deployment_id=one.deployment_id,
                because=ReasonAnswer(**msgspec.to_builtins(one.because)),
                waits_for=_reason(one.waits_for),
                rollouts=[MembershipAnswer(**_fields(row)) for row in one.rollouts],
            )
            for one in found.models
        ],
    )


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in MembershipAnswer.model_fields}
