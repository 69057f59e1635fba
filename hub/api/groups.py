"""Saved groups of devices: by a filter, or a list."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.devices import DeviceItem, device_item
from hub.api.paging import Listing, Page, paged
from hub.api.words import Words
from hub.groups.service import GroupChange, GroupPlan
from hub.store.groups import GroupRow
from shared.limits import MAX_FILTER_CHARS, MAX_GROUP_DEVICES_COUNT

router = APIRouter(tags=["groups"])
Reader = Annotated[Principal, Depends(require(Permission.DEVICES_READ))]
Manager = Annotated[Principal, Depends(require(Permission.GROUPS_MANAGE))]
FilterText = Annotated[str, Field(max_length=MAX_FILTER_CHARS)]
DeviceList = Annotated[list[str], Field(max_length=MAX_GROUP_DEVICES_COUNT)]


class GroupWish(BaseModel):
    """A new group: with a filter, or with a list of devices. `dry_run`: only say who would be in it."""

    model_config = ConfigDict(extra="forbid")
    name: str
    filter: FilterText | None = None
    devices: DeviceList | None = None
    description: Words = ""
    dry_run: bool = False


class GroupPatch(BaseModel):
    """What changes; null: nothing. `devices` replaces a list; `add` and `remove` change it."""

    model_config = ConfigDict(extra="forbid")
    filter: FilterText | None = None
    devices: DeviceList | None = None
    add: DeviceList = []
    remove: DeviceList = []
    description: Words | None = None
    dry_run: bool = False


class GroupChangeAnswer(BaseModel):
    """The group after the change, its active devices, and who joins and leaves by it (`joins`, `leaves`: some of them).

    `rollouts`: those that go on and target it, so that who joins gets what they roll out.
    """

    group: GroupRow
    devices: int
    joining: int
    leaving: int
    joins: list[str]
    leaves: list[str]
    rollouts: list[str]


class GroupAnswer(BaseModel):
    """A group, how many devices are in it now (active ones, and revoked ones), and what uses it."""

    group: GroupRow
    devices: int
    revoked: int
    named_by: list[str]
    rollouts: list[str]


def _answer(plan: GroupPlan) -> GroupChangeAnswer:
    return GroupChangeAnswer(
        group=plan.group,
        devices=plan.moves.devices,
        joining=plan.moves.joining,
        leaving=plan.moves.leaving,
        joins=plan.joins,
        leaves=plan.leaves,
        rollouts=plan.rollouts,
    )


@router.post("/v1/groups", status_code=201)
def create_group(hub: HubDep, wanted: GroupWish, response: Response, principal: Manager) -> GroupChangeAnswer:
    """Save a group; with `dry_run`, only say who would be in it."""
    wish = GroupChange(filter=wanted.filter, devices=wanted.devices, description=wanted.description)
    plan = hub.groups.create(wanted.name, wish, principal.name, dry_run=wanted.dry_run)
    response.status_code = 200 if wanted.dry_run else 201
    return _answer(plan)


@router.get("/v1/groups", response_model=Listing[GroupRow])
def list_groups(hub: HubDep, page: Page, _principal: Reader) -> dict[str, Any]:
    """Groups by name."""
    return paged(hub.groups.page(page), page, lambda row: (row.name,), lambda row: row)


@router.get("/v1/groups/{name}")
def get_group(hub: HubDep, name: str, _principal: Reader) -> GroupAnswer:
    """One group, counted now."""
    found = hub.groups.get(name)
    return GroupAnswer(
        group=found.group,
        devices=found.devices,
        revoked=found.revoked,
        named_by=found.named_by,
        rollouts=found.rollouts,
    )


@router.get("/v1/groups/{name}/devices", response_model=Listing[DeviceItem])
def list_group_devices(hub: HubDep, name: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """The devices that are in a group now, by id."""
    return paged(
        hub.groups.devices(name, page), page, lambda row: (row.device_id,), lambda row: device_item(hub, row)
    )


@router.patch("/v1/groups/{name}")
def update_group(hub: HubDep, name: str, wanted: GroupPatch, principal: Manager) -> GroupChangeAnswer:
    """Change a group; with `dry_run`, only say who would join and leave."""
    wish = GroupChange(
        filter=wanted.filter,
        devices=wanted.devices,
        add=wanted.add,
        remove=wanted.remove,
        description=wanted.description,
    )
    return _answer(hub.groups.update(name, wish, principal.name, dry_run=wanted.dry_run))


@router.delete("/v1/groups/{name}", status_code=204)
def delete_group(hub: HubDep, name: str, principal: Manager) -> None:
    """Take a group away, unless another group or a rollout uses it."""
    hub.groups.delete(name, principal.name)
