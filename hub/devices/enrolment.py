"""How a device comes in: one token, one key made on the device, one certificate.

The token is taken, the device written, the certificate remembered and the audit entry made in one transaction. A
request that is refused leaves the token unused. A device that lost the answer (power cut) may ask again with the same
token *and the same key*, until a certificate of it was superseded; another key finds the token used. An id
that exists can only be taken with a token that names it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.audit.log import AuditLog
from hub.devices import rules
from hub.devices.certificates import DeviceCertificates
from hub.devices.hooks import DeviceHooks
from hub.devices.tokens import secret_digest
from hub.pki.csr import parse_csr
from hub.settings import HubSettings
from hub.store import devices, enrolment
from hub.store.database import Connection, Database
from hub.store.enrolment import EnrolmentTokenRow
from shared import ids
from shared.clock import Clock
from shared.errors import Unauthorised
from shared.wire.http import EnrolReply, EnrolRequest

__all__ = ["Enrolment"]

_MAX_ANSWERS_COUNT = 4


@dataclass(frozen=True, slots=True)
class _Admitted:
    device_id: str
    certificate_pem: str
    again: bool


class Enrolment:
    """Admits devices. `tuf_root` gives the newest published root metadata, or raises `trust.not_initialised`."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        audit: AuditLog,
        settings: HubSettings,
        certificates: DeviceCertificates,
        hooks: DeviceHooks,
        tuf_root: Callable[[], bytes],
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._settings = settings
        self._certificates = certificates
        self._hooks = hooks
        self._tuf_root = tuf_root

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Let a device in; errors `csr.*`, `id.*`, `enrolment.*`, `device.exists`, `trust.not_initialised`."""
        key = parse_csr(request.csr_pem)
        rules.check_profile_name(request.profile)
        rules.check_hardware_id(request.hardware_id)
        root = self._tuf_root()
        with self._db.write() as connection:
            admitted = self._admit(connection, request, key)
        if admitted.again:
            self._hooks.cut_off(admitted.device_id)
        self._hooks.enrolled(admitted.device_id)
        return EnrolReply(
            device_id=admitted.device_id,
            certificate_pem=admitted.certificate_pem,
            hub_ca_pem=self._certificates.hub_ca_pem,
            mqtt_host=self._settings.broker_host,
            mqtt_port=self._settings.mqtt_port,
            tuf_root=root.decode(),
        )

    def _admit(self, connection: Connection, request: EnrolRequest, key: EllipticCurvePublicKey) -> _Admitted:
        digest = secret_digest(request.token)
        token = enrolment.find_by_secret(connection, digest)
        if token is None:
            raise Unauthorised(
                "enrolment.unknown_token",
                "This enrolment token is not known.",
                hint="Ask for a new one: `skerry devices token`.",
            )
        rules.check_token_fits(token, profile=request.profile, hardware_id=request.hardware_id)
        key_sha256 = _key_digest(key)
        device_id = token.device_id or request.device_id or f"device-{secrets.token_hex(5)}"
        if not enrolment.use(connection, digest, device_id, key_sha256, self._clock.now()):
            return self._answer_again(connection, digest, key, key_sha256)
        again = self._write_device(connection, request, token, ids.parse_device_id(device_id))
        issued = self._certificates.issue(connection, device_id, key)
        detail = {
            "token_id": token.token_id,
            "profile": request.profile,
            "hardware_id": request.hardware_id,
            "fingerprint": issued.fingerprint,
            "again": again,
        }
        self._audit.append(connection, f"device:{device_id}", "device.enrol", device_id, detail)
        return _Admitted(device_id, issued.pem, again)

    def _write_device(
        self, connection: Connection, request: EnrolRequest, token: EnrolmentTokenRow, device_id: str
    ) -> bool:
        now = self._clock.now()
        existing = devices.find_device(connection, device_id)
        named = token.device_id == device_id
        write = devices.reactivate_device if existing is not None and named else devices.insert_device
        write(connection, device_id=device_id, profile=request.profile, hardware_id=request.hardware_id, now_s=now)
        if token.tags:
            devices.change_tags(connection, device_id, token.tags)
        return existing is not None

    def _answer_again(
        self, connection: Connection, digest: str, key: EllipticCurvePublicKey, key_sha256: str
    ) -> _Admitted:
        """The token could not be taken: used or expired. The same key may have its answer again."""
        token = enrolment.find_by_secret(connection, digest)
        if token is None or token.used_s is None or token.used_by is None:
            raise Unauthorised(
                "enrolment.token_expired",
                "This enrolment token has expired.",
                hint="Ask for a new one: `skerry devices token`.",
            )
        since = token.used_s
        certificates = [row for row in devices.certificates_of(connection, token.used_by) if row.issued_s >= since]
        device = devices.find_device(connection, token.used_by)
        if (
            token.used_key_sha256 != key_sha256
            or token.expires_s <= self._clock.now()
            or device is None
            or device.status != "active"
            or len(certificates) >= _MAX_ANSWERS_COUNT
            or any(row.superseded_s is not None for row in certificates)
        ):
            raise Unauthorised(
                "enrolment.token_used",
                "This enrolment token has been used.",
                hint="A token works once. Ask for a new one: `skerry devices token`.",
            )
        issued = self._certificates.issue(connection, device.device_id, key)
        detail = {"token_id": token.token_id, "fingerprint": issued.fingerprint}
        self._audit.append(connection, f"device:{device.device_id}", "device.enrol_repeated", device.device_id, detail)
        return _Admitted(device.device_id, issued.pem, again=False)


def _key_digest(key: EllipticCurvePublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
