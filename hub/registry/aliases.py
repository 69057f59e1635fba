"""Aliases: names such as `production` that move from version to version; their history is only ever added to.

`production` names approved versions only. No alias names a version that is withdrawn or whose bundle is gone, because
a name that cannot be deployed is a trap.
"""

from __future__ import annotations

from hub.audit.log import AuditLog
from hub.store import models as store
from hub.store import registry
from hub.store.blobs_index import require_bundle
from hub.store.database import Database
from hub.store.models import PRODUCTION, AliasMove
from hub.store.page import PageRequest
from hub.store.registry import Status
from shared.clock import Clock
from shared.errors import Conflict
from shared.ids import parse_alias

__all__ = ["AliasService"]


class AliasService:
    """Moves aliases and tells where they have been."""

    def __init__(self, db: Database, clock: Clock, audit: AuditLog) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit

    def move(self, model: str, alias: str, version: int | None, reason: str, actor: str) -> list[AliasMove]:
        """Let `alias` name `version`, or nothing (None); moving it to where it is adds nothing. Gives all aliases.

        Errors: `id.alias`, `model.unknown`, `version.unknown`, `alias.not_approved`, `alias.withdrawn`,
        `version.collected`.
        """
        parse_alias(alias)
        with self._db.write() as connection:
            store.get_model(connection, model)
            if version is not None:
                row = registry.get_version(connection, model, version)
                _check(alias, row)
                require_bundle(connection, row.bundle_sha256)
            before = store.alias_version(connection, model, alias)
            if before != version:
                store.add_alias_move(connection, model, alias, version, self._clock.now(), actor, reason)
                detail = {"from": before, "to": version, "reason": reason}
                self._audit.append(connection, actor, "alias.move", f"{model}@{alias}", detail)
            return store.current_aliases(connection, model)

    def current(self, model: str) -> list[AliasMove]:
        """Where every alias is now; error `model.unknown`."""
        with self._db.read() as connection:
            store.get_model(connection, model)
            return store.current_aliases(connection, model)

    def history(self, model: str, alias: str, page: PageRequest) -> list[AliasMove]:
        """Where an alias has been, newest first; errors `model.unknown`, `id.alias`."""
        parse_alias(alias)
        with self._db.read() as connection:
            store.get_model(connection, model)
            return store.list_alias_moves(connection, model, alias, page)


def _check(alias: str, row: registry.VersionRow) -> None:
    if row.status is Status.WITHDRAWN:
        raise Conflict("alias.withdrawn", f"Version {row.version} of {row.model} is withdrawn.")
    if alias == PRODUCTION and row.status is not Status.APPROVED:
        raise Conflict(
            "alias.not_approved",
            f"Version {row.version} of {row.model} is {row.status.value}; only an approved version is {PRODUCTION}.",
            hint=f"Approve it first: `skerry versions sign {row.model} {row.version} --key YOUR.key`.",
        )
