"""Verdicts on what devices saw, what applications counted, and the oddest devices."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from hub.access.permissions import Permission
from hub.access.principal import Principal
from hub.api.auth import HubDep, require
from hub.api.paging import Listing, Page, paged
from hub.store.drift import ResultRow

router = APIRouter(tags=["drift"])
Reader = Annotated[Principal, Depends(require(Permission.MONITORING_READ))]


class VerdictItem(BaseModel):
    """The verdict on one level of one period. severity: 0 nothing, 1 input drift, 2 prediction drift, 3 performance,
    4 data quality. `result` holds faults, features, estimates and truths; of level `devices`: who is named."""

    model: str
    version: int
    period_s: int
    arm: str
    level: str
    severity: int
    rows: int
    result: dict[str, Any]


class DriftAnswer(BaseModel):
    """The newest verdicts of a model, by version and level; periods have `period_s` seconds."""

    model: str
    period_s: int
    verdicts: list[VerdictItem]


class MetricItem(BaseModel):
    """What applications counted under one name."""

    name: str
    kind: str
    version: int
    arm: str
    count: int
    total: float
    least: float
    greatest: float


class MetricsAnswer(BaseModel):
    """Counters and gauges of applications."""

    items: list[MetricItem]


class OddDevice(BaseModel):
    """A device and how odd its worst reading is, in robust deviations: among its profile's devices (`peers`) or against
    its own last day (`past`); `score` is the larger one, and `against` says which."""

    device_id: str
    profile: str
    score: float
    reading: str
    against: str
    peers: float
    past: float
    readings: dict[str, Any]


class OddDevices(BaseModel):
    """The oddest first."""

    items: list[OddDevice]


def _item(row: ResultRow) -> VerdictItem:
    return VerdictItem(**{name: getattr(row, name) for name in VerdictItem.model_fields})


@router.get("/v1/drift/{model}")
def show_drift(hub: HubDep, model: str, _: Reader, version: Annotated[int | None, Query(ge=1)] = None) -> DriftAnswer:
    """The newest verdicts of a model."""
    rows = hub.drift_views.latest(model, version)
    return DriftAnswer(model=model, period_s=hub.drift_views.period_s, verdicts=[_item(row) for row in rows])


@router.get("/v1/drift/{model}/metrics")
def show_metrics(
    hub: HubDep, model: str, _: Reader, hours: Annotated[float, Query(gt=0, le=24 * 366)] = 24.0
) -> MetricsAnswer:
    """What applications counted, added up over the last hours by version and experiment arm."""
    return MetricsAnswer(items=[MetricItem(**row) for row in hub.drift_views.metrics(model, hours)])


@router.get("/v1/drift/{model}/{version}/history", response_model=Listing[VerdictItem])
def drift_history(
    hub: HubDep,
    model: str,
    version: int,
    page: Page,
    _: Reader,
    level: Annotated[str, Query(max_length=80)] = "fleet",
) -> dict[str, Any]:
    """The verdicts of one level, newest first."""
    return paged(hub.drift_views.history(model, version, level, page), page, lambda row: (row.period_s,), _item)


@router.get("/v1/odd-devices")
def odd_devices(hub: HubDep, _: Reader, limit: Annotated[int, Query(ge=1, le=500)] = 20) -> OddDevices:
    """The devices whose own readings (heat, memory, restarts, …) are the oddest among their profile's, or
    the furthest from their own past."""
    found = hub.device_history.top(limit)
    return OddDevices(items=[OddDevice(**msgspec.structs.asdict(one)) for one in found])
