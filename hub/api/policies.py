"""All policies in one document, to keep them with other configuration."""

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
from hub.api.triggers import DOCUMENT
from hub.policies.book import Change
from shared.limits import MAX_POLICIES_BYTES

router = APIRouter(tags=["policies"])
Reader = Annotated[Principal, Depends(require(Permission.FEDERATED_READ))]
Manager = Annotated[Principal, Depends(require(Permission.FEDERATED_MANAGE))]
BODY_LIMITS: BodyLimits = {("PUT", "/v1/policies"): MAX_POLICIES_BYTES}


class PolicyDocumentAnswer(BaseModel):
    """Policies by model: of training, and of what becomes of approved versions."""

    schema_version: int
    train: dict[str, dict[str, Any]]
    deploy: dict[str, dict[str, Any]]


class Changes(BaseModel):
    """What changed, or would; policies that stay the same are named too."""

    dry_run: bool
    items: list[Change]


@router.get("/v1/policies")
def export_policies(hub: HubDep, principal: Reader) -> PolicyDocumentAnswer:
    """All policies; with a token for some models, theirs."""
    return PolicyDocumentAnswer(**msgspec.to_builtins(hub.policies.book.export(principal.models)))


@router.put("/v1/policies", openapi_extra=DOCUMENT)
def apply_policies(
    hub: HubDep,
    body: RawBody,
    principal: Manager,
    prune: Annotated[bool, Query(description="Remove policies that the document does not name.")] = False,
    dry_run: Annotated[bool, Query(description="Only say what would change.")] = False,
) -> Changes:
    """Take a document (YAML or JSON) over, in one transaction or not at all."""
    wanted = hub.policies.book.read(body)
    principal.check(Permission.ROLLOUTS_MANAGE)
    for model in sorted(wanted.models):
        principal.check_model(model)
    done = hub.policies.book.apply(wanted, principal.name, principal.models, prune=prune, dry_run=dry_run)
    return Changes(dry_run=dry_run, items=done)
