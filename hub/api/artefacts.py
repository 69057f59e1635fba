"""Serving bundles: whole, in ranges, or not at all when the caller has them already.

A device gets what it is assigned to, serves, or could roll back to; for all else there is no such artefact. The entity
tag is the digest, so a download can be resumed from any hub and can never be stitched together from two bundles.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from hub.api.auth import Device, HubDep
from hub.api.errors import error_response
from hub.blobs.ranges import entity_tag, matches, select_slice
from hub.blobs.store import BlobStore
from shared.errors import InvalidInput, NotFound
from shared.ids import parse_sha256

__all__ = ["router", "serve_blob"]

router = APIRouter(tags=["device"])


def serve_blob(blobs: BlobStore, sha256: str, request: Request) -> Response:
    """The answer (200, 206, 304 or 416) for a blob by the request's conditions and range; error `blob.missing`."""
    tag = entity_tag(sha256)
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=31536000, immutable"}
    size = blobs.size(sha256)
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    try:
        part = select_slice(request.headers.get("range"), request.headers.get("if-range"), size, tag)
    except InvalidInput as error:
        return error_response(error, str(request.state.request_id), {"Content-Range": f"bytes */{size}"})
    headers["Content-Length"] = str(part.length)
    if part.partial:
        headers["Content-Range"] = part.content_range
    return StreamingResponse(
        blobs.open_range(sha256, part.first, part.last),
        status_code=206 if part.partial else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


@router.get("/v1/artefacts/{sha256}", response_class=StreamingResponse)
def get_artefact(hub: HubDep, device: Device, sha256: str, request: Request) -> Response:
    """A bundle for a device, by its digest; supports Range, If-Range and If-None-Match."""
    digest = parse_sha256(sha256)
    if not hub.assignments.is_entitled(device.device_id, digest):
        raise NotFound(
            "artefact.not_found",
            "There is no such artefact for this device.",
            hint="A device may fetch what it is assigned to, and what it serves already.",
        )
    return serve_blob(hub.blobs, digest, request)
