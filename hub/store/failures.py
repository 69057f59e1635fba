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

__all__ = ["plain_errors", "translated"]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise `database.value` (`InvalidInput`) or `database.unavailable` for SQLAlchemy's errors."""
    try:
        yield
    except SQLAlchemyError as error:
        if _is_about_a_value(error):
            raise InvalidInput("database.value", f"The database refused a value: {error}."[:300]) from error
        raise _unavailable(error) from error


def translated(error: Exception) -> InvalidInput | Unavailable | None:
    """What to tell who asked: the database is away, or cannot hold a value of the request; None: it is neither."""
    if isinstance(error, OperationalError | InterfaceError | TimeoutError):
        return _unavailable(error)
    if isinstance(error, DataError):
        return InvalidInput(
            "database.value",
            "The database cannot hold a value of this request.",
            hint="Text must not contain NUL characters, and numbers must not be too large.",
        )
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
