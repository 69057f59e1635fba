"""Training that starts by itself: policies by model, what they would do now, and what they did.

A policy is the body itself, YAML or JSON, as people keep it in files.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.body import RawBody
from hub.api.edge import BodyLimits
from hub.api.paging import Listing, Page, paged
from hub.federated.triggers import TrainTest
from hub.policies.fields import document
from hub.store.policies import PolicyRow
from hub.store.triggers import FiringRow
from shared.limits import MAX_POLICIES_BYTES

router = APIRouter(tags=["triggers"])
Reader = Annotated[Principal, Depends(require(Permission.FEDERATED_READ))]
Manager = Annotated[Principal, Depends(require(Permission.FEDERATED_MANAGE))]
_POLICY, _TEST = "/v1/federated/triggers/{model}", "/v1/federated/triggers/{model}/test"
BODY_LIMITS: BodyLimits = {("PUT", _POLICY): MAX_POLICIES_BYTES, ("POST", _TEST): MAX_POLICIES_BYTES}
DOCUMENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


class PolicyAnswer(BaseModel):
    """A policy as it is kept, without what is the default."""

    model: str
    policy: dict[str, Any]
    changed_s: float
    changed_by: str


class Policies(BaseModel):
    """All of them, by model."""

    items: list[PolicyAnswer]


class CheckAnswer(BaseModel):
    """A condition, or a veto, with its figures."""

    name: str
    holds: bool
    text: str
    figures: dict[str, Any]


class ClauseAnswer(BaseModel):
    """One entry of `when`."""

    holds: bool
    checks: list[CheckAnswer]


class TrainTestAnswer(BaseModel):
    """What would happen now. code, message: why the run could not be made; empty if it could."""

    model: str
    fires: bool
    reason: str
    clauses: list[ClauseAnswer]
    vetoes: list[CheckAnswer]
    code: str
    message: str


def policy_answer(row: PolicyRow) -> PolicyAnswer:
    """A policy for people."""
    return PolicyAnswer(
        model=row.model,
        policy=msgspec.json.decode(row.document),
        changed_s=row.changed_s,
        changed_by=row.changed_by,
    )


def _test(found: TrainTest) -> TrainTestAnswer:
    plain = msgspec.to_builtins(found.decision)
    return TrainTestAnswer(
        model=found.model,
        fires=found.decision.fires,
        reason=found.decision.reason,
        clauses=plain["clauses"],
        vetoes=plain["vetoes"],
        code=found.code,
        message=found.message,
    )


@router.get("/v1/federated/triggers")
def list_triggers(hub: HubDep, principal: Reader) -> Policies:
    """Policies of training by model; with a token for some models, theirs."""
    return Policies(items=[policy_answer(row) for row in hub.policies.train.list(principal.models)])


@router.get("/v1/federated/triggers-fired", response_model=Listing[FiringRow])
def list_firings(
    hub: HubDep,
    page: Page,
    principal: Reader,
    model: Annotated[str | None, Query(max_length=63, description="Only of this model.")] = None,
) -> dict[str, Any]:
    """What fired, newest first, with the evidence."""
    rows = hub.policies.train.firings(page, model, principal.models)
    return paged(rows, page, lambda row: (row.firing_id,), lambda row: row)


@router.get("/v1/federated/triggers-fired/{firing_id}")
def get_firing(hub: HubDep, firing_id: int, principal: Reader) -> FiringRow:
    """One firing; the run that it made names it as `t-` and its number."""
    row = hub.policies.train.firing(firing_id)
    principal.check_model(row.model)
    return row


@router.get(_POLICY)
def get_trigger(hub: HubDep, model: str, _: Reader) -> PolicyAnswer:
    """The policy of a model."""
    return policy_answer(hub.policies.train.get(model))


@router.put(_POLICY, openapi_extra=DOCUMENT)
def set_trigger(hub: HubDep, model: str, body: RawBody, principal: Manager) -> PolicyAnswer:
    """Make or change the policy of a model."""
    return policy_answer(hub.policies.train.set(model, document(body), principal.name))


@router.delete(_POLICY, status_code=204)
def remove_trigger(hub: HubDep, model: str, principal: Manager) -> None:
    """Take the policy of a model away; what has fired stays used up."""
    hub.policies.train.remove(model, principal.name)


@router.post(_TEST, openapi_extra={"requestBody": {**DOCUMENT["requestBody"], "required": False}})
def try_trigger(hub: HubDep, model: str, body: RawBody, _: Reader) -> TrainTestAnswer:
    """What the model's policy (empty body), or this draft of one, would do now. Nothing happens."""
    return _test(hub.policies.train.test(model, document(body) if body.strip() else None))
