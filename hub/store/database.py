"""The engine and its transactions, with the same promises on SQLite and on PostgreSQL.

- `write()`: one at a time among all hubs, so that what it has read still holds when it writes. On SQLite it starts with
  `BEGIN IMMEDIATE` and never fails in its middle with "database is locked"; on PostgreSQL with an advisory lock.
- `write_rows()`: for what runs once a message or a request and locks the rows that it changes itself. SQLite has one
  writer anyway; on PostgreSQL it runs beside others, and beside `write()`. Rows are locked in the order of their ids.
- `read()`: one snapshot, in which nothing can be written.

A transaction that cannot begin within 15 s is given up (`database.unavailable`). On SQLite the writers of one process
take turns before they ask the file, first come first served: SQLite itself has who waits look again after pauses of up
to 100 ms, and whoever asks at the right moment goes first; and whoever writes again at once would go before all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, TimeoutError

from hub.store.failures import plain_errors
from hub.store.turns import Turns
from shared.errors import InvalidInput

__all__ = ["Connection", "Database"]

_BUSY_MS = 15_000
_POOL_COUNT = 10
_OVERFLOW_COUNT = 40  # with the pool more than the server's threads, so that none waits for a connection
_ALONE = select(func.pg_advisory_xact_lock(0x5C3E_A0D1))


def _prepare_sqlite(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None  # we begin ourselves
    cursor = dbapi.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_postgresql(dbapi: Any, _record: Any) -> None:
    with dbapi.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {_BUSY_MS}")
    dbapi.commit()


class Database:
    """One database, given as a URL (`sqlite:///…` or `postgresql://…`); errors `database.url`, `database.driver`."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _engine(self.url, pool_pre_ping=not self.is_sqlite)
        self._turns = Turns()
        event.listen(self.engine, "connect", _prepare_sqlite if self.is_sqlite else _prepare_postgresql)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, alone, that commits at the end of the block, or rolls back on an exception."""
        with self.write_rows() as connection:
            if not self.is_sqlite:
                connection.execute(_ALONE)
            yield connection

    @contextmanager
    def write_rows(self) -> Iterator[Connection]:
        """As `write`, but beside others: the block locks what it relies on."""
        with self._my_turn(), self.engine.connect() as connection, connection.begin():
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self.is_sqlite:
            yield
            return
        if not self._turns.take(_BUSY_MS / 1000):
            raise TimeoutError("another transaction of this process did not end")
        try:
            yield
        finally:
            self._turns.give_back()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot; nothing is committed."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection
            connection.rollback()

    def check(self) -> None:
        """Return if the database answers; `Unavailable` (`database.unavailable`) otherwise."""
        with plain_errors(), self.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise _unusable("It cannot be read as a URL.") from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise _unusable(f"The hub does not work with {url.get_backend_name()}.")
    return url


def _engine(url: URL, *, pool_pre_ping: bool) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=pool_pre_ping, pool_size=_POOL_COUNT, max_overflow=_OVERFLOW_COUNT)
    except (ImportError, NoSuchModuleError) as error:
        raise InvalidInput(
            "database.driver",
            f"The driver for {url.drivername} is not installed.",
            hint="Install it with `pip install 'skerry[hub,postgres]'`.",
        ) from error


def _unusable(why: str) -> InvalidInput:
    return InvalidInput(
        "database.url",
        f"The setting database_url is not usable. {why}",  # not shown itself: it may hold a password
        hint="For example postgresql://skerry@db.example/skerry; leave it out for SQLite in the data folder.",
    )
