"""Who may connect to the broker, and to which topics. The server asks about every connection; silence is a refusal.

Rules:
- Only MQTT with a certificate. The root of the *verified* chain says what its holder can be: under the device CA a
  device, under the hub CA the hub's own publisher or a listener. So a device that enrolled under the publisher's name
  would still be no more than a device, and a server certificate of the hub opens nothing.
- Beside it, `hub:listener:<name>` (`skerry-hub listener`) may subscribe to `alerts` and below, and nothing else.
- A device connects as itself only: certificate name = client id = the device that the hub has for this certificate.
- It may publish below `fleet.<device>.up.` and subscribe to `fleet.<device>.down` and below.
- The connection ends when its certificate does.
- A question that cannot be read, a database that does not answer in time: refused and logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hub.messaging.tokens import CalloutQuestion, CalloutSigner, Permissions, parse_question
from hub.pki.listeners import LISTENER_PREFIX
from shared.errors import Forbidden, SkerryError, Unauthorised
from shared.ids import parse_device_id

__all__ = ["Callout", "KnownDevice", "KnownDevices", "device_permissions"]

_LOG = logging.getLogger(__name__)
_DECIDE_S = 4.0  # within the server's own deadline (`config.render`)
_PUBLISHER_PERMISSIONS = Permissions(publish=("fleet.*.down", "fleet.*.down.>", "alerts", "alerts.>"), subscribe=())
_LISTENER_PERMISSIONS = Permissions(publish=(), subscribe=("alerts", "alerts.>", "$MQTT.sub.>"))


class KnownDevice(Protocol):
    """A device that may connect."""

    @property
    def device_id(self) -> str: ...


class KnownDevices(Protocol):
    """Where certificates are looked up."""

    def authenticate(self, fingerprint: str) -> KnownDevice:
        """The active device of a certificate (SHA-256 of its DER, in hex), or `Unauthorised`. Blocks."""
        ...


def device_permissions(device_id: str) -> Permissions:
    """The topics of one device and nothing else.

    `$MQTT.sub.>` is NATS's own: without it a subscription with QoS 1 is granted and then gets nothing. No client can
    subscribe to it by name.
    """
    return Permissions(
        publish=(f"fleet.{device_id}.up.>",),
        subscribe=(f"fleet.{device_id}.down", f"fleet.{device_id}.down.>", "$MQTT.sub.>"),
    )


class Callout:
    """Answers the server's questions."""

    def __init__(
        self,
        signer: CalloutSigner,
        devices: KnownDevices,
        *,
        device_ca: x509.Certificate,
        hub_ca: x509.Certificate,
        publisher_name: str,
        decide_s: float = _DECIDE_S,
    ) -> None:
        self._signer = signer
        self._devices = devices
        self._device_ca = _fingerprint(device_ca)
        self._hub_ca = _fingerprint(hub_ca)
        self._publisher = publisher_name
        self._decide_s = decide_s

    async def answer(self, data: bytes) -> bytes | None:
        """The signed answer to one question; None (the server then refuses) when it cannot even be read."""
        try:
            question = parse_question(data)
        except SkerryError as error:
            _LOG.error("an auth callout was refused: %s", error)
            return None
        try:
            async with asyncio.timeout(self._decide_s):
                name, permissions, expires_s = await self._decide(question)
        except (SkerryError, TimeoutError) as error:
            _LOG.warning("refused %s at %s: %s", question.client_id or "a client", question.address, error)
            return self._signer.refuse(question, error.code if isinstance(error, SkerryError) else "callout.timeout")
        except Exception:  # noqa: BLE001 - a defect must refuse, too, and must not end the callout
            _LOG.exception("an auth callout failed")
            return self._signer.refuse(question, "callout.failed")
        return self._signer.allow(question, name, permissions, expires_s)

    async def _decide(self, question: CalloutQuestion) -> tuple[str, Permissions, float]:
        if question.protocol != "mqtt" or len(question.chain) < 2:
            raise Unauthorised("callout.no_certificate", "Only MQTT with a client certificate is served.")
        leaf = x509.load_pem_x509_certificate(question.chain[0].encode())
        root = _fingerprint(x509.load_pem_x509_certificate(question.chain[-1].encode()))
        expires_s = leaf.not_valid_after_utc.timestamp()
        if root == self._hub_ca:
            return *self._of_the_hub(leaf, question.client_id), expires_s
        if root != self._device_ca:
            raise Unauthorised("callout.foreign_authority", "The certificate is of another authority.")
        device_id = parse_device_id(_common_name(leaf))
        if question.client_id != device_id:
            raise Forbidden("callout.client_id", f"A client of device {device_id} must use that as its client id.")
        known = await asyncio.to_thread(self._devices.authenticate, _fingerprint(leaf))
        if known.device_id != device_id:
            raise Forbidden("callout.wrong_device", f"The certificate belongs to {known.device_id}.")
        return device_id, device_permissions(device_id), expires_s

    def _of_the_hub(self, leaf: x509.Certificate, client_id: str) -> tuple[str, Permissions]:
        name = _common_name(leaf)
        if name == self._publisher and client_id.startswith(f"{name}:"):
            return name, _PUBLISHER_PERMISSIONS
        if name.startswith(LISTENER_PREFIX) and (client_id == name or client_id.startswith(f"{name}:")):
            return name, _LISTENER_PERMISSIONS
        raise Forbidden(
            "callout.not_the_publisher", "Of the hub's certificates only publisher and listeners are served."
        )


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise Unauthorised("callout.name", "The certificate must have exactly one common name.")
    return str(names[0].value)
