"""Held-out data and gate runs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.edge import BodyLimits
from hub.api.paging import Listing, Page, paged
from hub.api.uploads import receive
from hub.api.words import NO_NUL
from hub.store.blobs_index import DatasetRow
from hub.store.registry import GateRow
from shared.ids import parse_sha256, parse_version
from shared.limits import MAX_HELD_OUT_BYTES

router = APIRouter(tags=["gates"])
BODY_LIMITS: BodyLimits = {("PUT", "/v1/datasets"): MAX_HELD_OUT_BYTES}
Reader = Annotated[Principal, Depends(require(Permission.MODELS_READ))]
Gatekeeper = Annotated[Principal, Depends(require(Permission.VERSIONS_GATE))]
_NPZ_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class GateWish(BaseModel):
    """Which data to evaluate on."""

    model_config = ConfigDict(extra="forbid")
    dataset_sha256: str


class Datasets(BaseModel):
    """The newest data sets."""

    items: list[DatasetRow]


@router.put("/v1/datasets", openapi_extra=_NPZ_BODY)
async def put_dataset(
    hub: HubDep,
    request: Request,
    principal: Gatekeeper,
    name: Annotated[str, Query(max_length=128, pattern=NO_NUL, description="What to call it.")] = "",
) -> DatasetRow:
    """Keep held-out data (the body: an `.npz` file with `x` and `y`)."""
    upload = await run_in_threadpool(hub.datasets.receive)
    try:
        await receive(request, upload)
        return await run_in_threadpool(hub.datasets.add, upload, name, principal.name)
    finally:
        await run_in_threadpool(upload.discard)


@router.get("/v1/datasets")
def list_datasets(hub: HubDep, _principal: Reader) -> Datasets:
    """The newest data sets."""
    return Datasets(items=hub.datasets.list())


@router.post("/v1/models/{model}/versions/{version}/gate")
def run_gate(hub: HubDep, model: str, version: str, wanted: GateWish, principal: Gatekeeper) -> GateRow:
    """Evaluate a version on held-out data against its model's policy; takes seconds to minutes."""
    digest = parse_sha256(wanted.dataset_sha256)
    return hub.gates.evaluate(model, parse_version(version), digest, principal.name)


@router.get("/v1/models/{model}/versions/{version}/gates", response_model=Listing[GateRow])
def list_gates(hub: HubDep, model: str, version: str, page: Page, _principal: Reader) -> dict[str, Any]:
    """Gate runs of a version with their evidence, newest first."""
    rows = hub.gates.page(model, parse_version(version), page)
    return paged(rows, page, lambda row: (row.gate_id,), lambda row: row)
