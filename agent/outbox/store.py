"""The outbox's database: SQLite in WAL mode with `synchronous=FULL`, through sqlite-utils. Used from one thread only.

Rules: the ranges of the stored rows touch each other from the watermark to the newest number (no holes); the total of
`bytes` never exceeds the bound after a transaction; the counters in memory change only when the transaction commits.
A damaged file is not repaired but moved aside by the caller, because half a queue is worse than a counted new start.
"""

from __future__ import annotations

import importlib
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.outbox.dropping import DROP_ORDER, TOMBSTONE, Tombstone, merge
from agent.outbox.rows import Item, Row, State
from shared import limits
from shared.errors import StorageFailure, TooLarge
from shared.wire.up import Dropped, encode_body

if TYPE_CHECKING:
    import sqlite_utils


def _without_pandas(name: str) -> Any:
    """Import a module that takes pandas along where it is installed: 40 MB for something that is not used here."""
    known = "pandas" in sys.modules
    if not known:
        sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        if not known:
            del sys.modules["pandas"]


if not TYPE_CHECKING:
    sqlite_utils = _without_pandas("sqlite_utils")

__all__ = ["MIN_LIMIT_BYTES", "ROW_BYTES", "OutboxStore"]

SCHEMA_VERSION = 1
ROW_BYTES = 96
"""What a row costs besides its body, for the bound."""
MIN_LIMIT_BYTES = 16 * limits.KIB
_ENVELOPE_BYTES = 512
_VICTIMS_COUNT = 64


class OutboxStore:
    """One open outbox database."""

    def __init__(self, path: Path, *, limit_bytes: int, new_epoch: str) -> None:
        """Open or make the database; `outbox.damaged` when its content cannot be trusted."""
        self.limit_bytes = max(limit_bytes, MIN_LIMIT_BYTES)
        self.largest_body_bytes = min(limits.MAX_MQTT_MESSAGE_BYTES - _ENVELOPE_BYTES, self.limit_bytes // 4)
        self._db = sqlite_utils.Database(sqlite3.connect(path), execute_plugins=False)
        try:
            self._prepare()
            self._messages = self._db.table("messages", pk="seq")
            self._meta = self._db.table("meta", pk="id")
            self._create(new_epoch)
            self.state = self._load()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-512", "journal_size_limit=1048576"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        if [row[0] for row in self._db.execute("PRAGMA quick_check(1)").fetchall()] != ["ok"]:
            raise StorageFailure("outbox.damaged", "The outbox file fails its check.")

    def _create(self, new_epoch: str) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION:
            return
        if version != 0:
            raise StorageFailure("outbox.damaged", f"The outbox has the unknown format {version}.")
        with self._db.atomic():
            self._messages.create(
                {"seq": int, "first_seq": int, "kind": str, "created_s": float, "body": bytes, "bytes": int},
                pk="seq",
                not_null={"first_seq", "kind", "created_s", "body", "bytes"},
            )
            self._messages.create_index(["kind", "seq"])
            self._meta.create(
                {"id": int, "epoch": str, "next_seq": int, "watermark": int, "dropped_count": int}, pk="id"
            )
            self._meta.insert({"id": 1, "epoch": new_epoch, "next_seq": 1, "watermark": 0, "dropped_count": 0})
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _load(self) -> State:
        rows = list(self._meta.rows_where("id = 1"))
        if not rows:
            raise StorageFailure("outbox.damaged", "The outbox has lost its counters.")
        count, total = self._db.execute("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM messages").fetchone()
        meta = {key: value for key, value in rows[0].items() if key != "id"}
        return msgspec.convert({**meta, "pending_count": count, "pending_bytes": total}, State)

    def close(self) -> None:
        """Close the file; the WAL is folded in."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, for the file and for `state`; durable when it has ended."""
        before = self.state
        try:
            with self._db.atomic():
                yield
                self._save(before)
        except BaseException:
            self.state = before
            raise

    def _save(self, before: State) -> None:
        state = self.state
        if state == before:
            return
        row = {"epoch": state.epoch, "next_seq": state.next_seq, "watermark": state.watermark}
        self._meta.update(1, {**row, "dropped_count": state.dropped_count})

    def check_size(self, body: bytes) -> None:
        """Refuse a body that the outbox or the wire could never carry (`outbox.too_large`)."""
        if len(body) > self.largest_body_bytes:
            raise TooLarge(
                "outbox.too_large", f"A message of {len(body)} bytes is over the outbox's {self.largest_body_bytes}."
            )

    def add(self, items: Sequence[Item]) -> list[int]:
        """Store messages and make room for them; returns their numbers. Inside a transaction."""
        first = self.state.next_seq
        rows = [self._row(first + offset, first + offset, item) for offset, item in enumerate(items)]
        self._messages.insert_all(rows, pk="seq")
        self._count(len(rows), sum(row["bytes"] for row in rows))
        self.state = msgspec.structs.replace(self.state, next_seq=first + len(rows))
        self._make_room()
        return [row["seq"] for row in rows]

    def confirm(self, epoch: str, seq: int) -> bool:
        """The hub has committed up to `seq`; False when that is not about this outbox or nothing new.

        A confirmation above anything that was ever numbered here means that the storage went back in time (a restored
        image, a flash card that lied): the numbers were used before, so what is pending moves to a new epoch.
        """
        if epoch != self.state.epoch or seq <= self.state.watermark:
            return False
        if seq >= self.state.next_seq:
            raise StorageFailure("outbox.went_back", f"The hub knows message {seq}, which this outbox never made.")
        freed = self._sum("seq <= ?", [seq])
        self._messages.delete_where("seq <= ?", [seq])
        self._count(-freed[0], -freed[1])
        self.state = msgspec.structs.replace(self.state, watermark=seq)
        return True

    def restart(self, epoch: str) -> None:
        """Number what is pending anew from 1 in another epoch. Inside a transaction."""
        rows = self.read(0, count=-1, limit_bytes=None)
        self._messages.delete_where()
        number, moved = 0, []
        for row in rows:
            first, number = number + 1, number + 1 + row.seq - row.first_seq
            moved.append(self._row(first, number, Item(kind=row.kind, created_s=row.created_s, body=row.body)))
        self._messages.insert_all(moved, pk="seq")
        self.state = msgspec.structs.replace(self.state, epoch=epoch, next_seq=number + 1, watermark=0)

    def read(self, after_seq: int, *, count: int, limit_bytes: int | None) -> list[Row]:
        """The oldest messages above `after_seq` within `count` and `limit_bytes`; one is given if there is any."""
        found: list[Row] = []
        total = 0
        for values in self._messages.rows_where("seq > ?", [after_seq], order_by="seq", limit=count):
            row = msgspec.convert({key: values[key] for key in Row.__struct_fields__}, Row)
            total += len(row.body) + _ENVELOPE_BYTES
            if found and limit_bytes is not None and total > limit_bytes:
                break
            found.append(row)
        return found

    def _row(self, first_seq: int, seq: int, item: Item) -> dict[str, Any]:
        return {
            "seq": seq,
            "first_seq": first_seq,
            "kind": item.kind,
            "created_s": item.created_s,
            "body": item.body,
            "bytes": len(item.body) + ROW_BYTES,
        }

    def _count(self, rows: int, size: int) -> None:
        self.state = msgspec.structs.replace(
            self.state,
            pending_count=self.state.pending_count + rows,
            pending_bytes=self.state.pending_bytes + size,
        )

    def _sum(self, where: str, parameters: list[Any]) -> tuple[int, int]:
        sql = f"SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM messages WHERE {where}"
        count, total = self._db.execute(sql, parameters).fetchone()
        return count, total

    def _make_room(self) -> None:
        for kinds in DROP_ORDER:
            while self.state.pending_bytes > self.limit_bytes:
                victims = self._oldest(kinds)
                if not victims:
                    break
                for victim in victims:
                    if self.state.pending_bytes <= self.limit_bytes:
                        return
                    self._bury(victim)

    def _oldest(self, kinds: frozenset[str]) -> list[dict[str, Any]]:
        marks = ", ".join("?" * len(kinds))
        where, names = f"kind IN ({marks})", sorted(kinds)
        return list(self._messages.rows_where(where, names, order_by="seq", limit=_VICTIMS_COUNT))

    def _bury(self, victim: dict[str, Any]) -> None:
        seq = victim["seq"]
        before = self._messages.rows_where("seq = ?", [seq - 1])
        after = self._messages.rows_where("seq > ?", [seq], order_by="seq", limit=1)
        neighbours = [row for row in (*before, *after) if row["kind"] == TOMBSTONE]
        parts = [_tombstone(row) for row in neighbours]
        parts.append(Tombstone(first_seq=seq, seq=seq, dropped=Dropped(count=1, kinds={victim["kind"]: 1})))
        whole = merge(sorted(parts, key=lambda part: part.seq))
        gone = [*neighbours, victim]
        marks = ", ".join("?" * len(gone))
        self._messages.delete_where(f"seq IN ({marks})", [row["seq"] for row in gone])
        item = Item(kind=TOMBSTONE, created_s=victim["created_s"], body=encode_body(whole.dropped))
        row = self._row(whole.first_seq, whole.seq, item)
        self._messages.insert(row, pk="seq")
        self._count(1 - len(gone), row["bytes"] - sum(old["bytes"] for old in gone))
        self.state = msgspec.structs.replace(self.state, dropped_count=self.state.dropped_count + 1)


def _tombstone(row: dict[str, Any]) -> Tombstone:
    try:
        dropped = msgspec.msgpack.decode(row["body"], type=Dropped)
    except msgspec.DecodeError as error:
        raise StorageFailure("outbox.damaged", "A stored message of the outbox cannot be read.") from error
    return Tombstone(first_seq=row["first_seq"], seq=row["seq"], dropped=dropped)
