"""Certificates of devices: issued over the key of a request, renewed over an old or a new key.

A renewal does not end the certificate that asked for it; the first use of the new one does (`authenticator`). So a
device whose power fails between answer and disk is never locked out. Few unused ones are kept at a time.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.access.principal import DevicePrincipal
from hub.audit.log import AuditLog
from hub.pki.authority import Issued
from hub.pki.csr import parse_csr
from hub.pki.store import Pki
from hub.settings import HubSettings
from hub.store import devices
from hub.store.database import Connection, Database
from hub.store.devices import CertificateRow
from shared.clock import Clock
from shared.errors import Unauthorised
from shared.wire.http import RenewReply, RenewRequest

__all__ = ["DeviceCertificates"]

DAY_S = 86_400
_MAX_UNUSED_COUNT = 4
_STEP_S = 0.001


class DeviceCertificates:
    """Issues and renews."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog, settings: HubSettings, pki: Pki) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._lifetime_s = settings.certificates.device_days * DAY_S
        self._pki = pki

    @property
    def hub_ca_pem(self) -> str:
        """The certificate that devices trust for hub and broker."""
        return self._pki.hub_ca.pem

    def issue(self, connection: Connection, device_id: str, key: EllipticCurvePublicKey) -> Issued:
        """A certificate for an active device, remembered within the caller's transaction."""
        now = self._clock.now()
        issued = self._pki.device_ca.issue_client(key, device_id, now_s=now, lifetime_s=self._lifetime_s)
        newest = max((row.issued_s for row in devices.certificates_of(connection, device_id)), default=0.0)
        row = CertificateRow(
            fingerprint=issued.fingerprint,
            device_id=device_id,
            serial=issued.serial,
            issued_s=max(now, newest + _STEP_S),  # their order must hold even when the clock is set back
            not_after_s=issued.not_after_s,
            superseded_s=None,
            public_key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        )
        devices.insert_certificate(connection, row)
        return issued

    def renew(self, principal: DevicePrincipal, request: RenewRequest) -> RenewReply:
        """The next certificate for a device that shows its current one; errors `csr.*`, `device.revoked`."""
        key = parse_csr(request.csr_pem)
        with self._db.write() as connection:
            device = devices.find_device(connection, principal.device_id)
            if device is None or device.status != "active":  # revoked since the request was authenticated
                raise Unauthorised("device.revoked", f"The device {principal.device_id} was revoked.")
            self._end_surplus(connection, principal)
            issued = self.issue(connection, principal.device_id, key)
            self._audit.append(
                connection, principal.actor, "device.renew", principal.device_id, {"fingerprint": issued.fingerprint}
            )
        return RenewReply(certificate_pem=issued.pem)

    def _end_surplus(self, connection: Connection, principal: DevicePrincipal) -> None:
        unused = [
            row.fingerprint
            for row in devices.certificates_of(connection, principal.device_id)
            if row.superseded_s is None and row.fingerprint != principal.fingerprint
        ]
        surplus = unused[: max(0, len(unused) - _MAX_UNUSED_COUNT + 1)]
        if surplus:
            devices.supersede(connection, surplus, self._clock.now())
