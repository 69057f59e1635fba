"""Where the hub's objects are built, and the only place: plain objects, handed to each other by name.

`build_hub` opens what `hub.provision` has made; it starts nothing. Each part adds its field to `Hub` and its lines to
`build_hub`, below the parts that it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hub.access.tokens import ApiTokens
from hub.audit.log import AuditLog
from hub.deployments.filter import compile_filter
from hub.devices.authenticator import DeviceAuthenticator
from hub.devices.certificates import DeviceCertificates
from hub.devices.enrolment import Enrolment
from hub.devices.fleet import Fleet
from hub.devices.hooks import DeviceHooks
from hub.devices.tokens import EnrolmentTokens
from hub.ingest.service import IngestService
from hub.pki.store import Pki
from hub.settings import HubSettings
from hub.store import trust as trust_store
from hub.store.database import Database
from shared.clock import Clock, SystemClock
from shared.errors import Conflict

__all__ = ["Hub", "build_hub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything that the API, the messaging and the commands work with."""

    settings: HubSettings
    clock: Clock
    db: Database
    # people, and the record of what they did
    audit: AuditLog
    tokens: ApiTokens
    # devices
    pki: Pki
    device_auth: DeviceAuthenticator
    device_hooks: DeviceHooks
    device_certificates: DeviceCertificates
    enrolment_tokens: EnrolmentTokens
    enrolment: Enrolment
    fleet: Fleet
    # messages
    ingest: IngestService

    def close(self) -> None:
        """Give files and connections back."""
        self.db.close()


def build_hub(settings: HubSettings, clock: Clock | None = None) -> Hub:
    """The hub of a data folder that `hub.provision.provision` has prepared; `storage.missing` if it has not."""
    clock = clock or SystemClock()
    pki = Pki.load(settings)
    db = Database(settings.database)
    audit = AuditLog(db, clock)
    hooks = DeviceHooks()
    certificates = DeviceCertificates(db, clock, audit, settings, pki)
    return Hub(
        settings=settings,
        clock=clock,
        db=db,
        audit=audit,
        tokens=ApiTokens(db, clock, audit),
        pki=pki,
        device_auth=DeviceAuthenticator(db, clock),
        device_hooks=hooks,
        device_certificates=certificates,
        enrolment_tokens=EnrolmentTokens(db, clock, audit, settings, pki.hub_ca.sha256),
        enrolment=Enrolment(db, clock, audit, settings, certificates, hooks, partial(_tuf_root, db)),
        fleet=Fleet(db, clock, audit, hooks, compile_filter),
        ingest=IngestService(db, clock),
    )


def _tuf_root(db: Database) -> bytes:
    with db.read() as connection:
        root = trust_store.latest(connection, "root")
    if root is None:
        raise Conflict(
            "trust.not_initialised",
            "The hub has no trust root yet.",
            hint="Make keys with `skerry keys create` and run `skerry trust init`.",
        )
    return root.data
