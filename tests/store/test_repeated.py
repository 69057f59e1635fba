"""Statements that are compiled once bind, insert, replace and add as those that SQLAlchemy runs do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from hub.store.database import Database
from hub.store.repeated import added, by_device, new_ones, replaced
from hub.store.schema import device_status, devices, health_windows, models, window_latest, window_marks

LATEST = {
    "device_id": "dev1",
    "model": "table",
    "version": 1,
    "profile": "pi",
    "period_s": 0,
    "received_s": 1.5,
    "window": b"\x00\xff",
    "found": [1, "it's 5 % more", None],
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.write() as connection:
        device = {"status": "active", "profile": "pi", "hardware_id": "", "enrolled_s": 1.0}
        connection.execute(insert(devices), [{"device_id": one, **device} for one in ("dev1", "dev2")])
        connection.execute(
            insert(models).values(model="table", description="", gate={}, bake_s=0, created_s=1.0, created_by="test")
        )
    yield database
    database.close()


def rows(database: Database, table: Any) -> list[dict[str, Any]]:
    with database.read() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]


def test_json_and_bytes_come_back_as_they_were(database: Database) -> None:
    with database.write() as connection:
        replaced(window_latest).run(connection, [LATEST])
    assert rows(database, window_latest) == [LATEST]


def test_new_rows_leave_those_that_are_there_and_replaced_ones_do_not(database: Database) -> None:
    mark = {"device_id": "dev1", "model": "table", "version": 1, "series": "5" * 16, "window_id": 1, "seen_s": 1.0}
    with database.write() as connection:
        new_ones(window_marks).run(connection, [mark])
        new_ones(window_marks).run(connection, [mark | {"window_id": 2}, mark | {"window_id": 3, "version": 2}])
    assert [row["window_id"] for row in rows(database, window_marks)] == [1, 3]
    with database.write() as connection:
        replaced(window_marks, ["window_id"]).run(connection, [mark | {"window_id": 9, "seen_s": 7.0}])
    assert [(row["window_id"], row["seen_s"]) for row in rows(database, window_marks)] == [(9, 1.0), (3, 1.0)]


def test_added_rows_add_up(database: Database) -> None:
    statement = added(health_windows)
    row = {"model": "table", "period_s": 0, "version": 1, "profile": "pi", "cohort": ""}
    counts = {"reports": 1, "requests": 10, "errors": 2, "over_budget": 0, "crashes": 0}
    for _ in range(2):
        with database.write() as connection:
            statement.run(connection, [row | counts, row | counts | {"version": 2}])
    assert [found["requests"] for found in rows(database, health_windows)] == [20, 20]


def test_only_the_named_columns_of_a_device_change_and_nothing_runs_for_no_rows(database: Database) -> None:
    first = {"device_id": "dev1", "last_seen_s": 1.0, "epoch": "e", "watermark": 0}
    zeros = {"messages": 0, "dropped": 0, "malformed": 0}
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with database.write() as connection:
        new_ones(device_status, [*first, *zeros]).run(connection, [first | zeros])
        heard = by_device(device_status, ["heartbeat", "watermark"])
        before = len(seen)
        heard.run(connection, [])
        assert len(seen) == before
        heard.run(connection, [{"of_device": "dev1", "heartbeat": {"a": None}, "watermark": 4, "beside": "unused"}])
    found = rows(database, device_status)[0]
    assert (found["heartbeat"], found["watermark"], found["last_seen_s"]) == ({"a": None}, 4, 1.0)
