"""The outbox's file: what gives way, and what a confirmation does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.outbox.rows import Item
from agent.outbox.store import MIN_LIMIT_BYTES, OutboxStore
from shared.errors import StorageFailure, TooLarge

EPOCH = "0" * 15 + "1"


def item(kind: str, size: int = 1000) -> Item:
    return Item(kind=kind, created_s=1.0, body=bytes(size))


def add(store: OutboxStore, *items: Item) -> list[int]:
    with store.transaction():
        return store.add(items)


def kinds(store: OutboxStore) -> list[str]:
    return [row.kind for row in store.read(0, count=-1, limit_bytes=None)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OutboxStore]:
    opened = OutboxStore(tmp_path / "outbox.db", limit_bytes=MIN_LIMIT_BYTES, new_epoch=EPOCH)
    yield opened
    opened.close()


def test_the_oldest_telemetry_gives_way_before_any_event(store: OutboxStore) -> None:
    add(store, item("event"), item("heartbeat"), item("install"), item("heartbeat"), item("inventory"))
    add(store, *[item("event")] * 10)
    assert kinds(store)[:5] == ["event", "dropped", "install", "heartbeat", "inventory"]
    add(store, *[item("event")] * 2)
    assert kinds(store)[:4] == ["event", "dropped", "install", "dropped"]
    assert store.state.dropped_count == 3
    assert kinds(store).count("event") == 13


def test_when_only_facts_are_left_the_oldest_of_them_gives_way(store: OutboxStore) -> None:
    add(store, *[item("event")] * 20)
    rows = store.read(0, count=-1, limit_bytes=None)
    assert [row.kind for row in rows] == ["dropped", *["event"] * 14]
    assert (rows[0].first_seq, rows[0].seq) == (1, 6)


def test_a_body_that_could_never_be_sent_is_refused(store: OutboxStore) -> None:
    with pytest.raises(TooLarge):
        store.check_size(bytes(store.largest_body_bytes + 1))


def test_a_confirmation_of_another_epoch_changes_nothing(store: OutboxStore) -> None:
    add(store, item("event"))
    with store.transaction():
        assert not store.confirm("f" * 16, 1)
    assert kinds(store) == ["event"]


def test_a_confirmation_of_what_was_never_sent_is_refused(store: OutboxStore) -> None:
    add(store, item("event"))
    with pytest.raises(StorageFailure, match="never made"), store.transaction():
        store.confirm(EPOCH, 2)


def test_a_new_epoch_renumbers_what_is_pending_from_one(store: OutboxStore) -> None:
    add(store, *[item("event")] * 20)
    with store.transaction():
        store.confirm(EPOCH, 3)
    with store.transaction():
        store.restart("f" * 16)
    rows = store.read(0, count=-1, limit_bytes=None)
    assert [(row.first_seq, row.seq) for row in rows][:3] == [(1, 6), (7, 7), (8, 8)]
    assert (store.state.epoch, store.state.watermark, store.state.next_seq) == ("f" * 16, 0, 21)


def test_a_failed_transaction_leaves_file_and_counters_as_they_were(store: OutboxStore) -> None:
    add(store, item("event"))
    before = store.state

    def cut() -> None:
        with store.transaction():
            store.add([item("event")])
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        cut()
    assert store.state == before
    assert kinds(store) == ["event"]


def test_reading_is_bounded_by_count_and_bytes_but_always_moves_on(store: OutboxStore) -> None:
    add(store, item("event", 3000), item("event", 100), item("event", 100))
    assert len(store.read(0, count=2, limit_bytes=100_000)) == 2
    assert [row.seq for row in store.read(0, count=64, limit_bytes=10)] == [1]
    assert [row.seq for row in store.read(1, count=64, limit_bytes=100_000)] == [2, 3]


def test_an_unknown_format_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(StorageFailure, match="unknown format 9"):
        OutboxStore(path, limit_bytes=MIN_LIMIT_BYTES, new_epoch=EPOCH)
