"""Models and their aliases."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.api.words import Words
from hub.registry.models import ModelChange
from hub.store.models import AliasMove, ModelRow

router = APIRouter(tags=["models"])
Reader = Annotated[Principal, Depends(require(Permission.MODELS_READ))]
BakeSeconds = Annotated[int, Field(ge=0, le=30 * 86_400)]


class ModelChanges(BaseModel):
    """What to change; null leaves a field as it is. `gate`: the policy; `{}` is the hub's default one."""

    model_config = ConfigDict(extra="forbid")
    description: Words | None = None
    gate: dict[str, Any] | None = None
    bake_s: BakeSeconds | None = None

    def change(self) -> ModelChange:
        """For the service."""
        return ModelChange(description=self.description, gate=self.gate, bake_s=self.bake_s)


class NewModel(ModelChanges):
    """A model to be created."""

    name: str


class AliasWish(BaseModel):
    """Where an alias is to point; null: nowhere."""

    model_config = ConfigDict(extra="forbid")
    version: int | None
    reason: Words = ""


class Aliases(BaseModel):
    """Where every alias of a model is now."""

    items: list[AliasMove]


@router.get("/v1/models", response_model=Listing[ModelRow])
def list_models(hub: HubDep, page: Page, principal: Reader) -> dict[str, Any]:
    """Models by name; with a token for some models, those."""
    return paged(hub.models.page(page, principal.models), page, lambda row: (row.model,), lambda row: row)


@router.post("/v1/models", status_code=201)
def create_model(
    hub: HubDep, wanted: NewModel, principal: Annotated[Principal, Depends(require(Permission.MODELS_CREATE))]
) -> ModelRow:
    """A new model. Who may approve its versions is decided by the holders of the offline keys, not here."""
    return hub.models.create(wanted.name, wanted.change(), principal.name)


@router.get("/v1/models/{model}")
def get_model(hub: HubDep, model: str, _principal: Reader) -> ModelRow:
    """One model."""
    return hub.models.get(model)


@router.patch("/v1/models/{model}")
def change_model(
    hub: HubDep,
    model: str,
    wanted: ModelChanges,
    principal: Annotated[Principal, Depends(require(Permission.MODELS_UPDATE))],
) -> ModelRow:
    """Change a model. A changed gate policy sends versions that passed the old one back to the gate."""
    return hub.models.change(model, wanted.change(), principal.name)


@router.get("/v1/models/{model}/aliases")
def list_aliases(hub: HubDep, model: str, _principal: Reader) -> Aliases:
    """Where the aliases are now."""
    return Aliases(items=hub.aliases.current(model))


@router.put("/v1/models/{model}/aliases/{alias}")
def move_alias(
    hub: HubDep,
    model: str,
    alias: str,
    wanted: AliasWish,
    principal: Annotated[Principal, Depends(require(Permission.VERSIONS_PROMOTE))],
) -> Aliases:
    """Let an alias name a version, or nothing. `production` names approved versions only."""
    return Aliases(items=hub.aliases.move(model, alias, wanted.version, wanted.reason, principal.name))


@router.get("/v1/models/{model}/aliases/{alias}/history", response_model=Listing[AliasMove])
def alias_history(hub: HubDep, model: str, alias: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """Where an alias has been, newest first."""
    return paged(hub.aliases.history(model, alias, page), page, lambda row: (row.move_id,), lambda row: row)
