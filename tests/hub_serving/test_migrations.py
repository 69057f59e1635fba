"""The migrations give exactly the tables of `hub.store.schema`, once, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from hub.store.database import Database
from hub.store.migrate import migrate, newest_revision
from hub.store.schema import metadata
from shared.errors import Conflict
from tests.databases import Backend


@pytest.fixture
def empty_url(backend: Backend, tmp_path: Path) -> Iterator[str]:
    with backend.empty(tmp_path) as url:
        yield url


@pytest.fixture
def db(empty_url: str) -> Iterator[Database]:
    db = Database(empty_url)
    yield db
    db.close()


def test_a_migrated_database_is_what_the_schema_says(db: Database) -> None:
    assert migrate(db)
    with db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == newest_revision()
        tables = set(inspect(connection).get_table_names())
    assert tables == {*metadata.tables, "alembic_version"}


def test_migrating_again_changes_nothing(db: Database) -> None:
    assert migrate(db)
    assert not migrate(db)


def test_hubs_that_start_together_migrate_once(empty_url: str) -> None:
    databases = [Database(empty_url) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(migrate, databases))
    finally:
        for database in databases:
            database.close()
    assert sorted(done) == [False, False, False, True]


def test_a_migration_that_fails_leaves_nothing_behind(db: Database) -> None:
    with db.write() as connection:
        connection.execute(text("CREATE TABLE versions (x INTEGER)"))  # stands in the way of a later step
    with pytest.raises(DBAPIError):
        migrate(db)
    with db.read() as connection:
        assert inspect(connection).get_table_names() == ["versions"]


def test_a_database_of_a_newer_hub_is_refused(db: Database) -> None:
    migrate(db)
    with db.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict) as caught:
        migrate(db)
    assert caught.value.code == "database.newer"
