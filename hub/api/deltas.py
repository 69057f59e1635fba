"""Deltas for devices: what there is to a bundle from those that the device has, and the bytes of one.

A device gets what lies between two bundles that it may both fetch. Without a delta it takes the whole bundle; 202 says
that waiting a little is worth it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from hub.api.artefacts import serve_blob
from hub.api.auth import Device, HubDep
from hub.api.body import json_answer
from shared.ids import parse_sha256
from shared.limits import MAX_DELTA_SOURCES_COUNT

__all__ = ["router"]

router = APIRouter(tags=["device"])
_RETRY_AFTER_S = 1
Sources = Annotated[
    list[str],
    Query(alias="from", description="SHA-256 of bundles that the device has.", max_length=MAX_DELTA_SOURCES_COUNT),
]


@router.get("/v1/deltas/{to_sha256}")
def offer_delta(hub: HubDep, device: Device, to_sha256: str, sources: Sources) -> Response:
    """The smallest delta to a bundle (JSON `DeltaOffer`); 202 while it is being made, 404 when there is none."""
    offer = hub.deltas.offer(device.device_id, parse_sha256(to_sha256), [parse_sha256(one) for one in sources])
    if offer is None:
        return Response(status_code=202, headers={"Retry-After": str(_RETRY_AFTER_S)})
    return json_answer(offer)


@router.get("/v1/deltas/{to_sha256}/{from_sha256}", response_class=StreamingResponse)
def get_delta(hub: HubDep, device: Device, to_sha256: str, from_sha256: str, request: Request) -> Response:
    """The bytes of a delta; supports Range, If-Range and If-None-Match."""
    found = hub.deltas.open(device.device_id, parse_sha256(to_sha256), parse_sha256(from_sha256))
    return serve_blob(hub.blobs, found, request)
