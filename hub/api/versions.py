"""Versions: register, look, compare, lineage, download, withdraw."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.artefacts import serve_blob
from hub.api.auth import HubDep, require
from hub.api.body import json_answer
from hub.api.edge import BodyLimits
from hub.api.paging import Listing, Page, paged
from hub.api.uploads import receive
from hub.api.words import Words
from hub.store.registry import VersionRow
from shared.ids import parse_version
from shared.limits import MAX_BUNDLE_BYTES

router = APIRouter(tags=["versions"])
BODY_LIMITS: BodyLimits = {("PUT", "/v1/models/{model}/versions"): MAX_BUNDLE_BYTES}
Reader = Annotated[Principal, Depends(require(Permission.MODELS_READ))]
_BINARY_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class VersionItem(BaseModel):
    """A version in a list. `available`: its bundle is still stored."""

    model: str
    version: int
    status: str
    bundle_sha256: str
    bundle_bytes: int
    parent_version: int | None
    created_s: float
    created_by: str
    approved_s: float | None
    available: bool


class VersionAnswer(VersionItem):
    """One version in full."""

    manifest: dict[str, Any]
    card: str


class Registration(VersionAnswer):
    """The answer to a registration; `created` false: the same bytes were registered before."""

    created: bool


class Withdrawal(BaseModel):
    """Why a version is not to be deployed again."""

    model_config = ConfigDict(extra="forbid")
    reason: Words = ""


def _plain(row: VersionRow) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _answer(row: VersionRow) -> dict[str, Any]:
    return {**_plain(row), "manifest": json.loads(row.manifest)}


@router.get("/v1/models/{model}/versions", response_model=Listing[VersionItem])
def list_versions(hub: HubDep, model: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """Versions of a model, newest first."""
    return paged(hub.versions.page(model, page), page, lambda row: (row.version,), _plain)


@router.put("/v1/models/{model}/versions", openapi_extra=_BINARY_BODY)
async def register_version(
    hub: HubDep,
    model: str,
    request: Request,
    response: Response,
    principal: Annotated[Principal, Depends(require(Permission.VERSIONS_REGISTER))],
) -> Registration:
    """Register a bundle (the body). Its manifest names the version; the same bytes again are the same answer."""
    await run_in_threadpool(hub.models.get, model)  # before anything large is read
    upload = await run_in_threadpool(hub.versions.receive)
    try:
        await receive(request, upload)
        entry = await run_in_threadpool(hub.versions.register, model, upload, principal.name)
    finally:
        await run_in_threadpool(upload.discard)
    response.status_code = 201 if entry.created else 200
    return Registration(**_answer(entry.version), created=entry.created)


@router.get("/v1/models/{model}/versions/{version}")
def get_version(hub: HubDep, model: str, version: str, _principal: Reader) -> VersionAnswer:
    """One version with its manifest and card."""
    return VersionAnswer(**_answer(hub.versions.get(model, parse_version(version))))


@router.get("/v1/models/{model}/versions/{version}/bundle", response_class=StreamingResponse)
def get_bundle(hub: HubDep, model: str, version: str, request: Request, _principal: Reader) -> Response:
    """The bundle; supports Range, If-Range and If-None-Match."""
    row = hub.versions.get(model, parse_version(version))
    return serve_blob(hub.blobs, row.bundle_sha256, request)


@router.get("/v1/models/{model}/versions/{version}/lineage")
def get_lineage(hub: HubDep, model: str, version: str, _principal: Reader) -> Response:
    """Where a version comes from, and what was made from it."""
    return json_answer(hub.versions.lineage(model, parse_version(version)))


@router.post("/v1/models/{model}/versions/{version}/withdraw")
def withdraw_version(
    hub: HubDep,
    model: str,
    version: str,
    wanted: Withdrawal,
    principal: Annotated[Principal, Depends(require(Permission.VERSIONS_PROMOTE))],
) -> VersionAnswer:
    """Never deploy this version again, and take it back from devices that do not serve it yet."""
    row = hub.versions.withdraw(model, parse_version(version), wanted.reason, principal.name)
    hub.publications.wake()
    return VersionAnswer(**_answer(row))


@router.get("/v1/models/{model}/compare")
def compare_versions(
    hub: HubDep,
    model: str,
    a: Annotated[int, Query(description="One version.")],
    b: Annotated[int, Query(description="The other one.")],
    _principal: Reader,
) -> Response:
    """What differs from version `a` to version `b`: manifest, files, lineage, gate metrics."""
    return json_answer(hub.versions.compare(model, parse_version(a), parse_version(b)))
