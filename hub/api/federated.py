"""Federated runs: planned, created, watched, cancelled, resumed.

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
from hub.api.words import NO_NUL, Words
from hub.blobs.ranges import entity_tag, matches
from hub.federated.definition import parse_run
from hub.federated.forecast import Forecast
from hub.federated.traffic import LinkTraffic
from hub.store.federated import RoundRow, RunRow, RunState
from hub.store.federated_devices import AnswerRow
from shared.limits import MAX_REASON_CHARS, MAX_SETTINGS_BYTES

router = APIRouter(tags=["federated training"])
Reader = Annotated[Principal, Depends(require(Permission.FEDERATED_READ))]
Manager = Annotated[Principal, Depends(require(Permission.FEDERATED_MANAGE))]
BODY_LIMITS: BodyLimits = {("POST", "/v1/federated/runs"): MAX_SETTINGS_BYTES}
_DEFINITION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
Reason = Annotated[str, Query(max_length=MAX_REASON_CHARS, pattern=NO_NUL, description="Why; for the audit log.")]


class RunAnswer(BaseModel):
    """A run. `round_no`: complete rounds of `rounds`; `attempts`: with the abandoned ones. `version`: its beginning.

    `code`, `message`: why it failed. `evaluation`: what devices measured of the last weights. `result`: what became of
    them. `trigger`: what began it; empty: somebody.
    `cancelled_by`: who wants it to end. `changes` grows with whatever is to be seen.
    """

    run_id: str
    model: str
    version: int
    bundle_sha256: str
    state: RunState
    rounds: int
    round_no: int
    attempts: int
    weights: int
    bytes_down: int
    bytes_up: int
    code: str
    message: str
    privacy: dict[str, Any]
    evaluation: dict[str, Any] | None
    result: dict[str, Any]
    trigger: str
    reason: str
    cancelled_by: str
    port: int | None
    changes: int
    created_s: float
    created_by: str
    started_s: float | None
    ended_s: float | None
    definition: dict[str, Any]


class PlannedRunAnswer(BaseModel):
    """What a run would do now; `run`: as it was made, null in a dry run. `version`: from which it begins."""

    run: RunAnswer | None
    version: int
    bundle_sha256: str
    weights: int
    definition: dict[str, Any]
    forecast: Forecast


class RunCommand(BaseModel):
    """Why it is done."""

    model_config = ConfigDict(extra="forbid")
    reason: Words = ""


class OfferAnswers(BaseModel):
    """What devices said to offers, newest first."""

    items: list[AnswerRow]


class TrafficAnswer(BaseModel):
    """What a run has moved over each class of link so far, and what that cost by the firmware profiles."""

    items: list[LinkTraffic]


def _answer(row: RunRow) -> RunAnswer:
    same = {name: getattr(row, name) for name in RunAnswer.model_fields if name not in ("weights", "definition")}
    return RunAnswer(**same, weights=sum(row.sizes), definition=msgspec.json.decode(row.definition))


@router.post("/v1/federated/runs", status_code=201, openapi_extra=_DEFINITION)
def create_federated_run(
    hub: HubDep,
    body: RawBody,
    response: Response,
    principal: Manager,
    dry_run: Annotated[bool, Query(description="Only say what would happen.")] = False,
    reason: Reason = "",
) -> PlannedRunAnswer:
    """Make a run of a definition (YAML or JSON), or only say who would take part and what goes over which links."""
    definition = parse_run(body)
    principal.check_model(definition.model)
    planned = hub.federated.plan(definition)
    made = None
    if dry_run:
        response.status_code = 200
    else:
        made = _answer(hub.federated.create(definition, by=principal.name, reason=reason))
    return PlannedRunAnswer(
        run=made,
        version=planned.version,
        bundle_sha256=planned.bundle_sha256,
        weights=planned.weights,
        definition=msgspec.to_builtins(planned.definition),
        forecast=planned.forecast,
    )


@router.get("/v1/federated/runs", response_model=Listing[RunAnswer])
def list_federated_runs(
    hub: HubDep,
    page: Page,
    principal: Reader,
    model: Annotated[str | None, Query(description="Only of this model.")] = None,
    active: Annotated[bool, Query(description="Only those that have not ended.")] = False,
) -> dict[str, Any]:
    """Runs, newest first; with a token for some models, theirs."""
    rows = hub.federated.page(page, model, principal.models, active)
    return paged(rows, page, lambda row: (row.created_s, row.run_id), _answer)


@router.get("/v1/federated/runs/{run_id}", response_model=RunAnswer)
def get_federated_run(
    hub: HubDep, run_id: str, principal: Reader, if_none_match: Annotated[str | None, Header()] = None
) -> Any:
    """How a run stands; 304 when nothing is new since the ETag in If-None-Match."""
    row = hub.federated.get(run_id)
    principal.check_model(row.model)
    tag = entity_tag(str(row.changes))
    if matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(_answer(row).model_dump_json(), headers={"ETag": tag}, media_type="application/json")


@router.get("/v1/federated/runs/{run_id}/rounds", response_model=Listing[RoundRow])
def list_federated_rounds(hub: HubDep, run_id: str, page: Page, principal: Reader) -> dict[str, Any]:
    """Its attempts at rounds, oldest first, with what became of each device that was asked."""
    principal.check_model(hub.federated.get(run_id).model)
    rows = hub.federated.rounds(run_id, page)
    return paged(rows, page, lambda row: (row.attempt,), lambda row: row)


@router.get("/v1/federated/runs/{run_id}/answers")
def list_federated_answers(
    hub: HubDep, run_id: str, principal: Reader, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> OfferAnswers:
    """What devices said to the offers of a run, newest first."""
    principal.check_model(hub.federated.get(run_id).model)
    return OfferAnswers(items=hub.federated.answers(run_id, limit))


@router.get("/v1/federated/runs/{run_id}/traffic")
def get_federated_traffic(hub: HubDep, run_id: str, principal: Reader) -> TrafficAnswer:
    """Bytes of weights and updates by class of link, with their cost."""
    principal.check_model(hub.federated.get(run_id).model)
    return TrafficAnswer(items=hub.run_traffic.of_run(run_id))


@router.post("/v1/federated/runs/{run_id}/{command}")
def command_federated_run(
    hub: HubDep, run_id: str, command: Literal["cancel", "resume"], wanted: RunCommand, principal: Manager
) -> RunAnswer:
    """End a run before its next round, or let one that failed or was cancelled go on from its last complete round."""
    principal.check_model(hub.federated.get(run_id).model)
    change = hub.federated.cancel if command == "cancel" else hub.federated.resume
    return _answer(change(run_id, by=principal.name, reason=wanted.reason))
