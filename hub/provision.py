"""Preparing a hub's data folder: folders, database, certificates, online signing keys, the first administrator's token.

Every step looks first, so that it can be run again at any time, and after a cut in its middle.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hub.access.permissions import Role
from hub.access.tokens import ApiTokens
from hub.audit.log import AuditLog
from hub.pki.store import Pki
from hub.settings import HubSettings
from hub.store.database import Database
from hub.store.migrate import migrate
from hub.trust.online_keys import OnlineKeys
from shared import durable
from shared.clock import Clock, SystemClock

__all__ = ["Provisioned", "provision"]

FIRST_ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What `provision` has made in this run. `admin_token_path` None: an administrator's token was there already."""

    created: bool
    admin_token_path: Path | None
    leaves: tuple[str, ...]


def provision(settings: HubSettings, clock: Clock | None = None) -> Provisioned:
    """Make what is missing in the data folder; errors `storage.*`, `pki.damaged`, `database.*`."""
    clock = clock or SystemClock()
    for path in (settings.data_path, settings.pki_path, settings.keys_path, settings.blobs_path, settings.nats_path):
        durable.make_dir(path)
    with _alone(settings.data_path / ".provision.lock"):
        created = not (settings.pki_path / "hub-ca.crt").exists()
        OnlineKeys(settings.keys_path).create_missing()
        leaves = Pki.create_or_load(settings, clock.now()).ensure_leaves(clock.now())
        db = Database(settings.database)
        try:
            db.check()
            migrate(db)
            token_path = _first_admin(settings, db, clock)
        finally:
            db.close()
    return Provisioned(created=created, admin_token_path=token_path, leaves=tuple(leaves))


def _first_admin(settings: HubSettings, db: Database, clock: Clock) -> Path | None:
    tokens = ApiTokens(db, clock, AuditLog(db, clock))
    if tokens.has_admin():
        return None
    made = tokens.create(actor="hub", name=FIRST_ADMIN, role=Role.ADMIN, days=settings.admin_token_days)
    # A cut between the two leaves a token that nobody knows; `skerry-hub token create` makes another one.
    durable.write_file(settings.admin_token_path, made.secret.encode() + b"\n")
    return settings.admin_token_path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
