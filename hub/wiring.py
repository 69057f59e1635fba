"""Where the hub's objects are built, and the only place: plain objects, handed to each other by name.

`build_hub` opens what `hub.provision` has made; it starts nothing. Each part adds its field to `Hub` and its lines to
`build_hub`, below the parts that it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.access.tokens import ApiTokens
from hub.audit.log import AuditLog
from hub.devices.authenticator import DeviceAuthenticator
from hub.settings import HubSettings
from hub.store.database import Database
from shared.clock import Clock, SystemClock

__all__ = ["Hub", "build_hub"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Everything that the API, the messaging and the commands work with."""

    settings: HubSettings
    clock: Clock
    db: Database
    # people and the record of what they did
    audit: AuditLog
    tokens: ApiTokens
    # devices
    device_auth: DeviceAuthenticator
    # blobs, registry, gates, deployments, status
    # trust
    # messaging and ingest

    def close(self) -> None:
        """Give files and connections back."""
        self.db.close()


def build_hub(settings: HubSettings, clock: Clock | None = None) -> Hub:
    """The hub of a data folder that `hub.provision.provision` has prepared."""
    clock = clock or SystemClock()
    db = Database(settings.database)
    audit = AuditLog(db, clock)
    tokens = ApiTokens(db, clock, audit)
    device_auth = DeviceAuthenticator(db, clock)
    return Hub(settings=settings, clock=clock, db=db, audit=audit, tokens=tokens, device_auth=device_auth)
