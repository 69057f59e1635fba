"""The fleet's status, and garbage collection."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.registry.collection import Collected
from hub.status import FleetSummary

router = APIRouter(tags=["status"])


class GarbageWish(BaseModel):
    """`dry_run`: only say what would be removed."""

    model_config = ConfigDict(extra="forbid")
    dry_run: bool = True


@router.get("/v1/status")
def get_status(
    hub: HubDep, _principal: Annotated[Principal, Depends(require(Permission.STATUS_READ))]
) -> FleetSummary:
    """Who is there, what serves where, what fails and why."""
    return hub.status.summary()


@router.post("/v1/gc")
def collect_garbage(
    hub: HubDep, wanted: GarbageWish, principal: Annotated[Principal, Depends(require(Permission.GC_RUN))]
) -> Collected:
    """Remove bundles and data sets that nothing can still need."""
    return hub.garbage.run(principal.name, dry_run=wanted.dry_run)
