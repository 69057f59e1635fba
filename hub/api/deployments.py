"""Deployments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.api.words import Words
from hub.deployments.service import DeploymentDetail, DeploymentPlan
from hub.store.deployments import DeploymentRow, DeviceProgress, Downloads, Failure, Skip
from hub.wiring import Hub
from shared.ids import parse_device_id, parse_model_name, parse_version
from shared.limits import MAX_FILTER_CHARS

router = APIRouter(tags=["deployments"])
Reader = Annotated[Principal, Depends(require(Permission.DEPLOYMENTS_READ))]
Operator = Annotated[Principal, Depends(require(Permission.DEPLOYMENTS_CREATE))]
Progress = Literal["pending", "sent", "installing", "succeeded", "failed"]


class DeploymentWish(BaseModel):
    """What to deploy where. `filter`: `all` is every active device; `dry_run`: only say what would happen."""

    model_config = ConfigDict(extra="forbid")
    model: str
    version: int
    filter: Annotated[str, Field(max_length=MAX_FILTER_CHARS)]
    note: Words = ""
    dry_run: bool = False


class PlanAnswer(BaseModel):
    """`devices` get it. `skipped`: some of those that cannot take it; `skipped_counts`: all of them by reason."""

    deployment_id: str | None
    model: str
    version: int
    devices: int
    skipped: list[Skip]
    skipped_counts: dict[str, int]


class FailureAnswer(BaseModel):
    """A reason for failure, in the words of one device, and some of the devices."""

    reason_code: str
    reason: str
    devices: int
    examples: list[str]


class DetailAnswer(BaseModel):
    """How far a deployment is. `progress`: devices by progress; `states`: installing ones by their own state."""

    deployment: DeploymentRow
    progress: dict[str, int]
    states: dict[str, int]
    superseded: int
    failures: list[FailureAnswer]
    downloads: Downloads


class AssignmentAnswer(BaseModel):
    """An assignment of a device; `envelope` is what the hub signed (DSSE, JSON), as the device gets it."""

    model: str
    version: int
    counter: int
    bundle_sha256: str
    expires_s: float
    envelope: str


class AssignmentsAnswer(BaseModel):
    """All assignments of a device."""

    device_id: str
    items: list[AssignmentAnswer]


class Cancellation(BaseModel):
    """Why a deployment is taken back."""

    model_config = ConfigDict(extra="forbid")
    reason: Words = ""


def _plan(plan: DeploymentPlan) -> PlanAnswer:
    return PlanAnswer(
        deployment_id=plan.deployment_id or None,
        model=plan.model,
        version=plan.version,
        devices=plan.devices,
        skipped=plan.examples,
        skipped_counts=plan.skipped,
    )


def _failures(rows: list[Failure]) -> list[FailureAnswer]:
    found: dict[str, FailureAnswer] = {}
    for row in rows:
        answer = found.setdefault(
            row.reason_code,
            FailureAnswer(reason_code=row.reason_code, reason=row.reason, devices=row.devices, examples=[]),
        )
        answer.examples.append(row.device_id)
    return list(found.values())


def _detail(detail: DeploymentDetail) -> DetailAnswer:
    return DetailAnswer(
        deployment=detail.deployment,
        progress=detail.progress,
        states=detail.states,
        superseded=detail.superseded,
        failures=_failures(detail.failures),
        downloads=detail.downloads,
    )


def _within_scope(hub: Hub, deployment_id: str, principal: Principal) -> DeploymentDetail:
    detail = hub.deployments.get(deployment_id)
    principal.check_model(detail.deployment.model)
    return detail


@router.post("/v1/deployments", status_code=201)
def create_deployment(hub: HubDep, wanted: DeploymentWish, response: Response, principal: Operator) -> PlanAnswer:
    """Deploy an approved version to all devices that the filter chooses and that can run it."""
    model, version = parse_model_name(wanted.model), parse_version(wanted.version)
    principal.check_model(model)
    plan = hub.deployments.create(
        model, version, wanted.filter, wanted.note, principal.name, dry_run=wanted.dry_run
    )
    response.status_code = 200 if wanted.dry_run else 201
    return _plan(plan)


@router.get("/v1/deployments", response_model=Listing[DeploymentRow])
def list_deployments(
    hub: HubDep,
    page: Page,
    principal: Reader,
    model: Annotated[str | None, Query(description="Only of this model.")] = None,
) -> dict[str, Any]:
    """Deployments, newest first; with a token for some models, theirs."""
    rows = hub.deployments.page(page, model, principal.models)
    return paged(rows, page, lambda row: (row.created_s, row.deployment_id), lambda row: row)


@router.get("/v1/deployments/{deployment_id}")
def get_deployment(hub: HubDep, deployment_id: str, principal: Reader) -> DetailAnswer:
    """How far a deployment is, and why devices failed."""
    return _detail(_within_scope(hub, deployment_id, principal))


@router.get("/v1/deployments/{deployment_id}/devices", response_model=Listing[DeviceProgress])
def list_deployment_devices(
    hub: HubDep,
    deployment_id: str,
    page: Page,
    principal: Reader,
    progress: Annotated[Progress | None, Query(description="Only devices with this progress.")] = None,
) -> dict[str, Any]:
    """The devices of a deployment, by id."""
    _within_scope(hub, deployment_id, principal)
    rows = hub.deployments.devices(deployment_id, page, progress)
    return paged(rows, page, lambda row: (row.device_id,), lambda row: row)


@router.post("/v1/deployments/{deployment_id}/cancel")
def cancel_deployment(hub: HubDep, deployment_id: str, wanted: Cancellation, principal: Operator) -> DetailAnswer:
    """Take a deployment back from devices that do not serve it yet."""
    _within_scope(hub, deployment_id, principal)
    return _detail(hub.deployments.cancel(deployment_id, wanted.reason, principal.name))


@router.get("/v1/devices/{device_id}/assignments")
def list_assignments(hub: HubDep, device_id: str, principal: Operator) -> AssignmentsAnswer:
    """What a device should have, signed, to be carried to it in a folder; with a token for some models, theirs."""
    found = hub.desired.signed_assignments(parse_device_id(device_id))
    return AssignmentsAnswer(
        device_id=device_id,
        items=[
            AssignmentAnswer(
                model=assignment.model,
                version=assignment.version,
                counter=assignment.counter,
                bundle_sha256=assignment.bundle_sha256,
                expires_s=assignment.expires_s,
                envelope=envelope.decode(),
            )
            for assignment, envelope in found
            if principal.models is None or assignment.model in principal.models
        ],
    )
