"""API tokens of people and programs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from hub.access.permissions import PERMISSIONS, Permission, parse_role
from hub.access.principal import Principal
from hub.api.auth import HubDep, Person, require
from hub.api.paging import Listing, Page, paged
from hub.store.people import TokenRow

router = APIRouter(tags=["people"])
Manager = Annotated[Principal, Depends(require(Permission.TOKENS_MANAGE))]


class TokenWish(BaseModel):
    """What a new token is to allow. `models` null: every model; `days` null: the hub's default."""

    model_config = ConfigDict(extra="forbid")
    name: str
    role: str
    models: Annotated[list[str], Field(max_length=256)] | None = None
    days: int | None = None


class NewTokenAnswer(BaseModel):
    """The token's secret is shown here and never again."""

    token: str
    details: TokenRow


class WhoAmI(BaseModel):
    """Whom the hub takes the caller for."""

    token_id: str
    name: str
    role: str
    models: list[str] | None
    permissions: list[str]


@router.get("/v1/whoami")
def whoami(principal: Person) -> WhoAmI:
    """The caller's name, role, scope and permissions."""
    return WhoAmI(
        token_id=principal.token_id,
        name=principal.name,
        role=principal.role.value,
        models=None if principal.models is None else sorted(principal.models),
        permissions=sorted(permission.value for permission in PERMISSIONS[principal.role]),
    )


@router.get("/v1/tokens", response_model=Listing[TokenRow])
def list_tokens(hub: HubDep, page: Page, _principal: Manager) -> dict[str, Any]:
    """All tokens, without their secrets."""
    return paged(hub.tokens.list(page), page, lambda row: (row.token_id,), lambda row: row)


@router.post("/v1/tokens", status_code=201)
def create_token(hub: HubDep, wish: TokenWish, principal: Manager) -> NewTokenAnswer:
    """A new token."""
    made = hub.tokens.create(
        actor=principal.name,
        name=wish.name,
        role=parse_role(wish.role),
        days=hub.settings.token_days if wish.days is None else wish.days,
        models=wish.models,
    )
    return NewTokenAnswer(token=made.secret, details=made.token)


@router.delete("/v1/tokens/{token_id}")
def revoke_token(hub: HubDep, token_id: str, principal: Manager) -> TokenRow:
    """Revoke a token; it fails from the next request on."""
    return hub.tokens.revoke(token_id, principal.name)
