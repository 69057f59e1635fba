"""What becomes of approved versions by itself: policies by model, what they would do now, and what they did."""

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
from hub.api.triggers import DOCUMENT, Policies, PolicyAnswer, policy_answer
from hub.policies.fields import document
from hub.store.deploy_decisions import DecisionRow
from shared.ids import MAX_VERSION
from shared.limits import MAX_POLICIES_BYTES

router = APIRouter(tags=["deploy policies"])
Reader = Annotated[Principal, Depends(require(Permission.ROLLOUTS_READ))]
Manager = Annotated[Principal, Depends(require(Permission.ROLLOUTS_MANAGE))]
_POLICY = "/v1/deploy-policies/{model}"
BODY_LIMITS: BodyLimits = {("PUT", _POLICY): MAX_POLICIES_BYTES}


class ApproverAnswer(BaseModel):
    """Who signed the release, with which key."""

    actor: str
    key_id: str


class DeployTestAnswer(BaseModel):
    """What would become of a version now. code: why not; empty when it would be rolled out.

    served, rolling_out: the newest version that devices serve, and that goes out; 0: none.
    """

    model: str
    version: int
    deploys: bool
    code: str
    reason: str
    approvers: list[ApproverAnswer]
    served: int
    rolling_out: int


@router.get("/v1/deploy-policies")
def list_deploy_policies(hub: HubDep, principal: Reader) -> Policies:
    """Policies by model; with a token for some models, theirs."""
    return Policies(items=[policy_answer(row) for row in hub.policies.deploy.list(principal.models)])


@router.get(_POLICY)
def get_deploy_policy(hub: HubDep, model: str, _: Reader) -> PolicyAnswer:
    """The policy of a model."""
    return policy_answer(hub.policies.deploy.get(model))


@router.put(_POLICY, openapi_extra=DOCUMENT)
def set_deploy_policy(hub: HubDep, model: str, body: RawBody, principal: Manager) -> PolicyAnswer:
    """Make or change the policy of a model. It is not about versions that were approved before."""
    return policy_answer(hub.policies.deploy.set(model, document(body), principal.name))


@router.delete(_POLICY, status_code=204)
def remove_deploy_policy(hub: HubDep, model: str, principal: Manager) -> None:
    """Take the policy of a model away."""
    hub.policies.deploy.remove(model, principal.name)


@router.get("/v1/deploy-policies/{model}/decisions", response_model=Listing[DecisionRow])
def list_decisions(hub: HubDep, model: str, page: Page, _: Reader) -> dict[str, Any]:
    """What became of the model's versions, newest version first, with who approved them."""
    rows = hub.policies.deploy.decided(model, page)
    return paged(rows, page, lambda row: (row.version,), lambda row: row)


@router.get("/v1/deploy-policies/{model}/test")
def try_deploy_policy(
    hub: HubDep,
    model: str,
    _: Reader,
    version: Annotated[int | None, Query(ge=1, le=MAX_VERSION, description="Default: the newest.")] = None,
) -> DeployTestAnswer:
    """What would become of a version now. Nothing happens."""
    found = hub.policies.deploy.test(model, version)
    return DeployTestAnswer(
        model=found.model,
        version=found.version,
        **msgspec.to_builtins(found.choice),
        approvers=msgspec.to_builtins(found.approvers),
        **msgspec.to_builtins(found.running),
    )
