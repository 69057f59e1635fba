"""What devices call. Nobody else does, and devices call nothing else but TUF metadata and artefacts.

Enrolment and the CA's certificate come before the device has a certificate; all else demands one.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Response
from msgspec import Meta

from hub.api.auth import Device, HubDep
from hub.api.body import RawBody, body_schema, json_answer, struct_from
from hub.api.edge import BodyLimits
from hub.blobs.ranges import entity_tag, matches
from hub.ingest.service import Received
from shared.errors import InvalidInput
from shared.limits import KIB, MAX_UP_BATCH_BYTES, MAX_UP_BATCH_COUNT
from shared.wire.down import encode
from shared.wire.http import DeviceMessagesReply, EnrolRequest, RenewRequest

router = APIRouter(tags=["device"])
BODY_LIMITS: BodyLimits = {
    ("POST", "/v1/device/enrol"): 32 * KIB,
    ("POST", "/v1/device/renew"): 32 * KIB,
    ("POST", "/v1/device/messages"): MAX_UP_BATCH_BYTES,
}
_MESSAGES = msgspec.msgpack.Decoder(Annotated[list[bytes], Meta(min_length=1, max_length=MAX_UP_BATCH_COUNT)])


@router.get("/v1/ca.pem")
def hub_ca(hub: HubDep) -> Response:
    """The hub's CA certificate. Worth nothing until its SHA-256 was compared with the one in the join string."""
    return Response(hub.pki.hub_ca.pem, media_type="application/x-pem-file")


@router.post("/v1/device/enrol", openapi_extra=body_schema(EnrolRequest))
def enrol(hub: HubDep, body: RawBody) -> Response:
    """Enrol with a one-time token and a certificate request (JSON `EnrolRequest`, answer `EnrolReply`)."""
    return json_answer(hub.enrolment.enrol(struct_from(body, EnrolRequest, "enrolment request")))


@router.post("/v1/device/renew", openapi_extra=body_schema(RenewRequest))
def renew(hub: HubDep, device: Device, body: RawBody) -> Response:
    """The next certificate (JSON `RenewRequest`, answer `RenewReply`)."""
    return json_answer(hub.device_certificates.renew(device, struct_from(body, RenewRequest, "renewal request")))


@router.get("/v1/device/desired")
def desired(hub: HubDep, device: Device, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """What the device should have (MessagePack `DesiredState`); 304 when its revision is the one in If-None-Match."""
    tag = entity_tag(str(hub.desired.revision(device.device_id)))
    if matches(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    state = hub.desired.desired_state(device.device_id)
    headers = {"ETag": entity_tag(str(state.revision))}
    return Response(encode(state), headers=headers, media_type="application/msgpack")


@router.post("/v1/device/messages")
def messages(hub: HubDep, device: Device, body: RawBody) -> Response:
    """Messages when MQTT is blocked: a MessagePack list of envelopes; the answer confirms what is committed."""
    try:
        envelopes = _MESSAGES.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(
            "wire.malformed", f"The body is not a MessagePack list of 1 to {MAX_UP_BATCH_COUNT} messages."
        ) from error
    marks = hub.ingest.commit([Received(device.device_id, envelope) for envelope in envelopes])
    mark = marks.get(device.device_id)
    if mark is None:  # nothing readable, from a device that never sent anything readable
        raise InvalidInput("wire.malformed", "None of the messages can be read.")
    return json_answer(DeviceMessagesReply(epoch=mark.epoch, watermark=mark.seq, hub_s=mark.hub_s))
