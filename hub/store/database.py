"""The engine and its transactions.

One writer at a time on SQLite: `write()` starts `BEGIN IMMEDIATE`, so a transaction that will write waits at its
start and never fails in its middle with "database is locked". `read()` sees one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select

from hub.store.failures import plain_errors

__all__ = ["Connection", "Database"]

_BUSY_MS = 15_000
_POOL_COUNT = 10
_OVERFLOW_COUNT = 40  # with the pool more than the server's threads, so that none waits for a connection


def _on_connect(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None  # we begin ourselves
    cursor = dbapi.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Database:
    """One database, given as an SQLAlchemy URL (`sqlite:///…` or `postgresql+psycopg://…`)."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine: Engine = create_engine(
            self.url, pool_pre_ping=not self.is_sqlite, pool_size=_POOL_COUNT, max_overflow=_OVERFLOW_COUNT
        )
        if self.is_sqlite:
            event.listen(self.engine, "connect", _on_connect)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, or rolls back on an exception."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin() if not connection.in_transaction() else connection.get_transaction() as _:  # type: ignore[union-attr]
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot; nothing is committed."""
        with self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    def check(self) -> None:
        """Return if the database answers; `Unavailable` (`database.unavailable`) otherwise."""
        with plain_errors(), self.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()
