"""From a certificate to a device, on every connection: the HTTPS server and the broker's callout both ask here.

The TLS layer has already checked the certificate against the device CA. Here the hub says whether it still counts:
one indexed query, nothing cached, so that a revocation holds from the next request on. A renewed certificate ends the
older ones of its device when it is used for the first time, not before: a device that never got it can go on.
"""

from __future__ import annotations

from hub.access.principal import DevicePrincipal
from hub.store import devices
from hub.store.database import Database
from hub.store.devices import KnownCertificate
from shared.clock import Clock
from shared.errors import Unauthorised

__all__ = ["DeviceAuthenticator"]


class DeviceAuthenticator:
    """Decides about certificates by their fingerprint (SHA-256 of the DER, in hex)."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def authenticate(self, fingerprint: str) -> DevicePrincipal:
        """The device, or `Unauthorised`: `device.unknown_certificate|revoked|certificate_superseded|…_expired`."""
        with self._db.read() as connection:
            known = devices.find_certificate(connection, fingerprint)
        if known is None:
            raise Unauthorised(
                "device.unknown_certificate",
                "This certificate is not one that the hub knows.",
                hint="Enrol the device again with a token that names it.",
            )
        self._check(known)
        if known.replaces:
            with self._db.write_rows() as connection:
                devices.supersede_before(connection, known.device_id, known.issued_s, self._clock.now())
        return DevicePrincipal(device_id=known.device_id, fingerprint=fingerprint)

    def _check(self, known: KnownCertificate) -> None:
        if known.status != "active":
            raise Unauthorised(
                "device.revoked",
                f"The device {known.device_id} was revoked.",
                hint="Enrol it again with a token that names it.",
            )
        if known.superseded_s is not None:
            raise Unauthorised(
                "device.certificate_superseded", "The device has used a newer certificate; this one has ended."
            )
        if known.not_after_s <= self._clock.now():
            raise Unauthorised(
                "device.certificate_expired",
                "This certificate has expired.",
                hint="Enrol the device again with a token that names it.",
            )
