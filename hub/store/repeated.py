"""Statements that every batch repeats: compiled once for each kind of database, then run with the rows as they are.

To build a statement anew and to walk over its parameters takes several times as long as the database needs for the rows
of a small batch, and on SQLite the one writer is held meanwhile.

Rules: a row has a value for each named parameter, also for a column with a default, and may have more; lists are no
parameters. Values are bound as the column's type says, so JSON columns take plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Table, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["Repeated", "Row", "added", "by_device", "new_ones", "replaced"]

Row = Mapping[str, Any]
_Bind = Callable[[Any], Any]


class _Ready(NamedTuple):
    """text: with the driver's marks. names: the parameters, in the order of the marks where those have no names.
    bound: which of them are turned into what the driver takes, and how. fixed: what the statement says itself."""

    text: str
    names: tuple[str, ...]
    positional: bool
    bound: tuple[tuple[int, _Bind], ...]
    fixed: Row


class Repeated:
    """One statement. `build` gets the database's own `insert`, which knows what to do about a key that is there."""

    def __init__(self, build: Callable[[Any], Any], keys: Iterable[str] = ()) -> None:
        self._build = build
        self._keys = tuple(keys) or None
        self._ready: dict[str, _Ready] = {}

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it once for each row; nothing at all for none."""
        if rows:
            ready = self._of(connection.dialect)
            connection.exec_driver_sql(ready.text, _parameters(ready, rows))

    def run_one(self, connection: Connection, row: Row) -> int:
        """Run it for one row; returns how many rows of the table it changed."""
        ready = self._of(connection.dialect)
        return connection.exec_driver_sql(ready.text, _parameters(ready, [row])[0]).rowcount

    def _of(self, dialect: Dialect) -> _Ready:
        ready = self._ready.get(dialect.name)
        if ready is None:
            ready = self._ready[dialect.name] = self._compiled(dialect)
        return ready

    def _compiled(self, dialect: Dialect) -> _Ready:
        insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
        compiled: Any = self._build(insert).compile(dialect=dialect, column_keys=self._keys)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        names = tuple(compiled.positiontup if compiled.positional else binds)
        found = (binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names)
        bound = tuple((place, bind) for place, bind in enumerate(found) if bind is not None)
        given = {name for name in names if binds[name].required} | set(self._keys or ())
        fixed = {name: compiled.params[name] for name in names if name not in given}
        return _Ready(compiled.string, names, compiled.positional, bound, fixed)


def _parameters(ready: _Ready, rows: Sequence[Row]) -> Any:
    names = ready.names
    if ready.fixed:
        rows = [{**ready.fixed, **row} for row in rows]
    if len(names) == 1:
        values = [(row[names[0]],) for row in rows]
    else:
        pick = itemgetter(*names)
        values = [pick(row) for row in rows]
    for place, bind in ready.bound:
        values = [(*row[:place], bind(row[place]), *row[place + 1 :]) for row in values]
    return values if ready.positional else [dict(zip(names, row, strict=True)) for row in values]


def by_device(table: Table, names: Iterable[str]) -> Repeated:
    """Set the columns `names` of the row of a device, which is called `of_device`."""
    values: dict[str, Any] = {name: bindparam(name, type_=table.c[name].type) for name in names}
    return Repeated(lambda _: update(table).where(table.c.device_id == bindparam("of_device")).values(values))


def new_ones(table: Table, names: Iterable[str] | None = None) -> Repeated:
    """Insert rows of the columns `names` (all, if not given); those whose key is there already are left as they are."""
    columns = [column.name for column in table.c] if names is None else names
    return Repeated(lambda insert: insert(table).on_conflict_do_nothing(), columns)


def replaced(table: Table, names: Iterable[str] | None = None) -> Repeated:
    """Insert whole rows; of those whose key is there already, replace the columns `names` (all, if not given)."""
    keys = [column.name for column in table.primary_key]
    values = [column.name for column in table.c if column.name not in keys] if names is None else list(names)

    def build(insert: Any) -> Any:
        statement = insert(table)
        fresh = {name: statement.excluded[name] for name in values}
        return statement.on_conflict_do_update(index_elements=keys, set_=fresh)

    return Repeated(build, [column.name for column in table.c])


def added(table: Table) -> Repeated:
    """Insert whole rows; to those whose key is there already, add all that is no key."""
    keys = [column.name for column in table.primary_key]

    def build(insert: Any) -> Any:
        statement = insert(table)
        sums = {c.name: c + statement.excluded[c.name] for c in table.c if c.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=sums)

    return Repeated(build, [column.name for column in table.c])
