"""Devices as people see them: enrolment tokens, lists, tags, revocation, reports and events."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.devices.fleet import DeviceDetail
from hub.devices.tokens import NewEnrolmentToken, TokenWish
from hub.store.enrolment import EnrolmentTokenRow
from hub.store.fleet import DeviceModel, DeviceSummary, EventRow, ReportRow, StatusRow
from hub.wiring import Hub

router = APIRouter(tags=["devices"])
Reader = Annotated[Principal, Depends(require(Permission.DEVICES_READ))]
Enroller = Annotated[Principal, Depends(require(Permission.DEVICES_ENROL))]


class TokenRequest(BaseModel):
    """What an enrolment token is to allow; null: any. `count` tokens alike are made."""

    model_config = ConfigDict(extra="forbid")
    device_id: str | None = None
    hardware_id: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}
    ttl_s: int | None = None
    count: int = 1


class TokenAnswer(BaseModel):
    """The first token, and all of them in `items`. Secrets are shown here and never again."""

    token_id: str
    token: str
    join: str
    expires_s: float
    items: list[NewEnrolmentToken]


class Revocation(BaseModel):
    """Why a device is shut out."""

    model_config = ConfigDict(extra="forbid")
    reason: str = ""


class DeviceItem(BaseModel):
    """A device in a list. `online`: it was heard of lately, by the hub's setting `offline_after_s`."""

    device_id: str
    status: str
    online: bool
    profile: str
    hardware_id: str
    enrolled_s: float
    revoked_s: float | None
    last_seen_s: float | None
    tags: dict[str, str]
    models: list[DeviceModel]


class DeviceCertificate(BaseModel):
    """One certificate of a device, without its key: DER is no text."""

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str
    device_id: str
    serial: str
    issued_s: float
    not_after_s: float
    superseded_s: float | None


class DeviceAnswer(DeviceItem):
    """One device in full; `reports` and `events` are the newest ones. `hot`: what its messages said."""

    hot: StatusRow | None
    inventory: dict[str, Any] | None
    inventory_s: float | None
    desired_revision: int
    certificates: list[DeviceCertificate]
    reports: list[ReportRow]
    events: list[EventRow]


def device_item(hub: Hub, row: DeviceSummary) -> dict[str, Any]:
    """A device as lists show it."""
    horizon = hub.clock.now() - hub.settings.offline_after_s
    online = row.status == "active" and row.last_seen_s is not None and row.last_seen_s >= horizon
    return {**{field.name: getattr(row, field.name) for field in fields(row)}, "online": online}


def _answer(hub: Hub, device: DeviceDetail) -> DeviceAnswer:
    return DeviceAnswer(
        **device_item(hub, device.summary),
        hot=device.status,
        inventory=device.inventory,
        inventory_s=device.inventory_s,
        desired_revision=device.desired_revision,
        certificates=[DeviceCertificate.model_validate(row) for row in device.certificates],
        reports=device.reports,
        events=device.events,
    )


@router.post("/v1/enrolment-tokens", status_code=201)
def create_enrolment_token(hub: HubDep, wanted: TokenRequest, principal: Enroller) -> TokenAnswer:
    """One-time tokens that let devices in."""
    made = hub.enrolment_tokens.create(
        TokenWish(
            device_id=wanted.device_id,
            hardware_id=wanted.hardware_id,
            profile=wanted.profile,
            tags=wanted.tags,
            ttl_s=wanted.ttl_s,
            count=wanted.count,
        ),
        principal.name,
    )
    first = made[0]
    return TokenAnswer(
        token_id=first.token_id, token=first.token, join=first.join, expires_s=first.expires_s, items=made
    )


@router.get("/v1/enrolment-tokens", response_model=Listing[EnrolmentTokenRow])
def list_enrolment_tokens(hub: HubDep, page: Page, _principal: Enroller) -> dict[str, Any]:
    """All enrolment tokens, without their secrets."""
    return paged(hub.enrolment_tokens.list(page), page, lambda row: (row.token_id,), lambda row: row)


@router.delete("/v1/enrolment-tokens/{token_id}", status_code=204)
def delete_enrolment_token(hub: HubDep, token_id: str, principal: Enroller) -> None:
    """Take an unused token back."""
    hub.enrolment_tokens.delete(token_id, principal.name)


@router.get("/v1/devices", response_model=Listing[DeviceItem])
def list_devices(
    hub: HubDep,
    page: Page,
    _principal: Reader,
    filter_text: Annotated[
        str | None, Query(alias="filter", description="For example `tag.site==north` or `group==canaries`.")
    ] = None,
) -> dict[str, Any]:
    """Devices by id; without a filter, revoked ones too."""
    rows = hub.fleet.summaries(filter_text, page)
    return paged(rows, page, lambda row: (row.device_id,), lambda row: device_item(hub, row))


@router.get("/v1/devices/{device_id}")
def get_device(hub: HubDep, device_id: str, _principal: Reader) -> DeviceAnswer:
    """One device in full."""
    return _answer(hub, hub.fleet.get(device_id))


@router.put("/v1/devices/{device_id}/tags")
def change_tags(
    hub: HubDep,
    device_id: str,
    changes: dict[str, str | None],
    principal: Annotated[Principal, Depends(require(Permission.DEVICES_TAG))],
) -> dict[str, str]:
    """Set tags; null takes one away. Answers with all tags of the device."""
    return hub.fleet.change_tags(device_id, changes, principal.name)


@router.post("/v1/devices/{device_id}/revoke", status_code=204)
def revoke_device(
    hub: HubDep,
    device_id: str,
    wanted: Revocation,
    principal: Annotated[Principal, Depends(require(Permission.DEVICES_REVOKE))],
) -> None:
    """Shut a device out: its certificate counts no more, live connections end."""
    hub.fleet.revoke(device_id, wanted.reason, principal.name)


def _moment(row: ReportRow | EventRow) -> tuple[float, str, int]:
    return (row.received_s, row.epoch, row.seq)


@router.get("/v1/devices/{device_id}/reports", response_model=Listing[ReportRow])
def list_reports(hub: HubDep, device_id: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """Transitions of the device's install machine, newest first."""
    return paged(hub.fleet.reports(device_id, page), page, _moment, lambda row: row)


@router.get("/v1/devices/{device_id}/events", response_model=Listing[EventRow])
def list_events(hub: HubDep, device_id: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """Events that the device reported, newest first."""
    return paged(hub.fleet.events(device_id, page), page, _moment, lambda row: row)
