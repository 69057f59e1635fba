"""Whether the hub answers."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from hub.api.auth import HubDep
from shared import __version__

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The hub answers and reaches its database."""

    status: str
    version: str


@router.get("/v1/health")
def health(hub: HubDep) -> Health:
    """200 when the hub and its database answer."""
    hub.db.check()
    return Health(status="ok", version=__version__)
