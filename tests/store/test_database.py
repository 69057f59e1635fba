"""What `Database` promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import DBAPIError

from hub.store import leases
from hub.store.database import Connection, Database
from hub.store.schema import leases as table
from shared.errors import InvalidInput, Unavailable
from tests.databases import Backend

DEADLINE_S = 30.0


@pytest.fixture
def databases(database_url: str) -> Iterator[tuple[Database, Database]]:
    """Two hubs' views of one database."""
    both = Database(database_url), Database(database_url)
    yield both
    for database in both:
        database.close()


def add(connection: Connection, name: str, value: float = 0.0) -> None:
    connection.execute(insert(table).values(name=name, holder="x", expires_s=value))


def count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_write_is_whole_or_not_at_all(databases: tuple[Database, Database]) -> None:
    one, other = databases

    def fail() -> None:
        with one.write() as connection:
            add(connection, "lost")
            raise InvalidInput("test.refused", "No.")

    with pytest.raises(InvalidInput):
        fail()
    with one.write() as connection:
        add(connection, "kept")
    with other.read() as connection:
        assert connection.execute(select(table.c.name)).scalars().all() == ["kept"]


def test_a_read_is_one_snapshot(databases: tuple[Database, Database]) -> None:
    one, other = databases
    with one.read() as connection:
        before = count(connection)
        with other.write() as writing:
            add(writing, "later")
        assert count(connection) == before
    with one.read() as connection:
        assert count(connection) == before + 1


def test_nothing_is_written_in_a_read(databases: tuple[Database, Database]) -> None:
    one, other = databases
    with suppress(DBAPIError), one.read() as connection:
        add(connection, "never")
    with other.read() as connection:
        assert count(connection) == 0


def test_a_connection_that_has_read_can_write_again(databases: tuple[Database, Database]) -> None:
    one, _other = databases
    for number in range(20):  # more than the pool keeps
        with one.read() as connection:
            assert count(connection) == number
        with one.write() as connection:
            add(connection, str(number))


@pytest.mark.parametrize("hubs", [1, 2])
def test_what_a_write_has_read_still_holds_when_it_writes(databases: tuple[Database, Database], hubs: int) -> None:
    with databases[0].write() as connection:
        add(connection, "counter")

    def increment(number: int) -> None:
        with databases[number % hubs].write() as connection:
            value = connection.execute(select(table.c.expires_s)).scalar_one()
            connection.execute(update(table).values(expires_s=value + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(60)))
    with databases[1].read() as connection:
        assert connection.execute(select(table.c.expires_s)).scalar_one() == 60


def test_of_many_holders_at_once_one_gets_the_lease(databases: tuple[Database, Database]) -> None:
    start = threading.Barrier(8)

    def take(number: int) -> bool:
        start.wait(DEADLINE_S)
        with databases[number % 2].write_rows() as connection:
            return leases.take(connection, "scheduler", f"hub-{number}", 100.0, 130.0)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(8))) == [False] * 7 + [True]


def test_a_database_that_is_away_is_unavailable_and_not_a_crash() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        away.check()
    assert (caught.value.code, caught.value.retriable) == ("database.unavailable", True)
    away.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://localhost/x", "sqlite", "postgresql+asyncpgx://h/x"])
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Database(url)
    assert caught.value.code in ("database.url", "database.driver")
    assert not url or url not in caught.value.message


def test_a_missing_driver_says_what_to_install() -> None:
    with pytest.raises(InvalidInput) as caught:
        Database("postgresql+pg8000://db.example/skerry")
    assert caught.value.code == "database.driver"
    assert "skerry[hub,postgres]" in caught.value.hint


def test_on_postgresql_rows_are_written_while_somebody_administers(postgres: Backend, tmp_path: Path) -> None:
    with postgres.fresh(tmp_path) as url:
        database = Database(url)
        with database.write() as administering:
            add(administering, "a")
            with database.write_rows() as connection:
                add(connection, "b")
        with database.read() as connection:
            assert count(connection) == 2
        database.close()
