"""Bodies of the device API (`/v1/device/…`), JSON in both directions."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared import limits
from shared.wire.types import Count, DeviceId, Epoch, TimeS, Word

__all__ = ["DeviceMessagesReply", "EnrolReply", "EnrolRequest", "RenewReply", "RenewRequest"]

Pem = Annotated[str, Meta(max_length=64 * limits.KIB)]
CsrPem = Annotated[str, Meta(max_length=limits.MAX_CSR_BYTES)]


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/device/enrol`, without a client certificate. `device_id` is a wish; the token may fix another."""

    schema_version: int = 1
    token: Word
    csr_pem: CsrPem
    profile: Word
    device_id: DeviceId | None = None
    hardware_id: Word = ""


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a device keeps: its certificate, the CA for hub and broker, where the broker is, and the trusted TUF root.

    `tuf_root` is the newest root metadata's JSON text; the device checks its SHA-256 when the join string names one.
    """

    schema_version: int = 1
    device_id: DeviceId
    certificate_pem: Pem
    hub_ca_pem: Pem
    mqtt_host: Word
    mqtt_port: Annotated[int, Meta(ge=1, le=65535)]
    tuf_root: Annotated[str, Meta(max_length=limits.MAX_ROOT_BYTES)]


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/device/renew`, with the current client certificate; the CSR may be over a new key."""

    schema_version: int = 1
    csr_pem: CsrPem


class RenewReply(msgspec.Struct, frozen=True, kw_only=True):
    """The new certificate; the old one stays valid until the new one is first used."""

    schema_version: int = 1
    certificate_pem: Pem


class DeviceMessagesReply(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/device/messages` (MessagePack list of envelopes, when MQTT is blocked). hub_s: the hub's time
    at the commit; older hubs leave it out."""

    schema_version: int = 1
    epoch: Epoch
    watermark: Count
    hub_s: TimeS | msgspec.UnsetType = msgspec.UNSET
