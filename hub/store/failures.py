"""A database's exceptions in our words: a value that it refused is told apart from a database that is not there.

A missing table or a lost connection is nobody's input; only what the database says about a *value* is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
    TimeoutError,
)

from shared.errors import InvalidInput, Unavailable

__all__ = ["is_away", "plain_errors"]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise `database.value` (`InvalidInput`) or `database.unavailable` for SQLAlchemy's errors."""
    try:
        yield
    except SQLAlchemyError as error:
        if _is_about_a_value(error):
            raise InvalidInput("database.value", f"The database refused a value: {error}."[:300]) from error
        raise _unavailable(error) from error


def is_away(error: Exception) -> Unavailable | None:
    """`database.unavailable` when this exception says that the database is away or too busy; else None."""
    if isinstance(error, OperationalError | InterfaceError | TimeoutError):
        return _unavailable(error)
    return None


def _unavailable(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(
        "database.unavailable",
        "The database does not answer.",
        hint="Look at the hub's log; work goes on by itself when the database is back.",
        retriable=True,
        detail={"cause": type(error).__name__},
    )


def _is_about_a_value(error: SQLAlchemyError) -> bool:
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError) and not error.connection_invalidated
    return isinstance(error, StatementError)
