"""Bringing a database to the newest schema, in one transaction, forward only.

A database that is newer than this program is refused: an older hub must not write to it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from hub.store.database import Database
from shared.errors import Conflict

__all__ = ["migrate", "newest_revision"]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def newest_revision() -> str:
    """The schema revision that this program needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def migrate(db: Database) -> bool:
    """Run what is missing; True if something was. Error `database.newer`: it was written by a newer hub."""
    with db.write() as connection:
        config = _config()
        before = _revision(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if before is not None and before not in known:
            raise Conflict(
                "database.newer",
                f"The database has the schema {before}, which this version of the hub does not know.",
                hint="Start the newer version of skerry-hub that wrote it.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return _revision(connection) != before


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
