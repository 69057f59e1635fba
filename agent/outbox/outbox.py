"""The outbox as the agent uses it: asynchronous in front, one writer thread with the database behind.

Rules: nothing here blocks the event loop; what waits in the queue is written in one transaction (one fsync for many
messages); a call that returned has its message on the disk. The queue to the thread is bounded: when it is full,
`put` fails and `post` counts the loss. A damaged file is moved aside and a new epoch begins, told as an event. What
is posted before `start` waits in the queue.

The database is imported in the writer thread, because the agent serves predictions before it needs an outbox.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent.outbox.rows import Item, Row, State
from shared.clock import Clock
from shared.errors import InternalError, SkerryError, StorageFailure, Unavailable
from shared.wire.up import BODIES, Envelope, Event, encode_body, encode_envelope

if TYPE_CHECKING:
    from agent.outbox.store import OutboxStore

__all__ = ["Message", "Outbox"]

_log = logging.getLogger(__name__)
_QUEUE_COUNT = 1024
_BATCH_COUNT = 256
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_KINDS = {body: kind for kind, body in BODIES.items()}
T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A pending message, ready to be sent: its kind, its highest number, the bytes of its envelope."""

    kind: str
    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Work:
    """Something to do with the store inside the next transaction."""

    run: Callable[[OutboxStore], Any]
    done: Future[Any]


class Outbox:
    """The durable queue of one device."""

    def __init__(self, path: Path, *, device_id: str, limit_bytes: int, clock: Clock) -> None:
        self._path = path
        self._device_id = device_id
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._queue: queue.Queue[_Work | None] = queue.Queue(_QUEUE_COUNT)
        self._thread: threading.Thread | None = None
        self._state = State(epoch="0" * 16)
        self._listeners: list[Callable[[], None]] = []
        self._lost_count = 0
        self._opened = asyncio.Event()
        self._closed = False
        self._store: OutboxStore | None = None

    @property
    def state(self) -> State:
        """The counters as of the last commit."""
        return self._state

    @property
    def lost_count(self) -> int:
        """Messages that never reached the disk since the start: the disk refused them or the queue was full."""
        return self._lost_count

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change, from the writer thread; it must only wake somebody up."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Open the file; `StorageFailure` when the disk does not let us, and then it may be tried again."""
        opening: Future[None] = Future()
        opening.set_running_or_notify_cancel()  # who stops waiting does not stop the thread, which `close` ends
        self._thread = threading.Thread(target=self._run, args=(opening,), name="outbox", daemon=True)
        self._thread.start()
        try:
            await asyncio.wrap_future(opening)
        except SkerryError:
            self._thread = None
            raise
        self._opened.set()
        self._tell_listeners()

    @property
    def is_open(self) -> bool:
        """Whether `start` has succeeded."""
        return self._opened.is_set()

    async def opened(self) -> None:
        """Wait until `start` has succeeded."""
        await self._opened.wait()

    async def close(self) -> None:
        """Write what waits and close the file."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(self._queue.put, None)
            await asyncio.to_thread(thread.join)

    async def put(self, body: msgspec.Struct) -> int:
        """Store a message durably; returns its number. `outbox.too_large`, `outbox.busy`, `StorageFailure`."""
        return await asyncio.wrap_future(self._submit(self._add(body)))

    def post(self, body: msgspec.Struct) -> None:
        """Store a message as soon as possible, from any thread; a failure is logged and counted in `lost_count`."""
        try:
            self._submit(self._add(body)).add_done_callback(self._posted)
        except SkerryError as error:
            self._lose(error)

    async def confirm(self, epoch: str, seq: int) -> bool:
        """Forget what the hub has committed; False when the confirmation is old or about another epoch."""

        def run(store: OutboxStore) -> bool:
            try:
                return store.confirm(epoch, seq)
            except StorageFailure as error:
                self._restart(store, "outbox.went_back", error.message)
                return True

        return await asyncio.wrap_future(self._submit(run))

    async def begin_epoch(self, code: str, message: str) -> None:
        """Number what is pending anew, because the hub asks for numbers that are gone; told as an event."""
        await asyncio.wrap_future(self._submit(lambda store: self._restart(store, code, message)))

    def _restart(self, store: OutboxStore, code: str, message: str) -> None:
        store.restart(_new_epoch())
        store.add([self._event(code, message)])

    async def pending(self, after_seq: int, *, count: int, limit_bytes: int) -> list[Message]:
        """The oldest messages above `after_seq`, within the bounds (one is always given if there is any)."""

        def run(store: OutboxStore) -> list[Message]:
            epoch = store.state.epoch
            rows = store.read(after_seq, count=count, limit_bytes=limit_bytes)
            return [Message(kind=row.kind, seq=row.seq, data=self._envelope(epoch, row)) for row in rows]

        return await asyncio.wrap_future(self._submit(run))

    def _tell_listeners(self) -> None:
        for listener in self._listeners:
            listener()

    def _envelope(self, epoch: str, row: Row) -> bytes:
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        return encode_envelope(Envelope(device_id=self._device_id, epoch=epoch, **fields))

    def _add(self, body: msgspec.Struct) -> Callable[[OutboxStore], int]:
        item = self._item(body)

        def run(store: OutboxStore) -> int:
            store.check_size(item.body)
            return store.add([item])[0]

        return run

    def _item(self, body: msgspec.Struct) -> Item:
        return Item(kind=_KINDS[type(body)], created_s=max(0.0, self._clock.now()), body=encode_body(body))

    def _event(self, code: str, message: str) -> Item:
        return self._item(Event(code=code, severity="warning", message=message[:500]))

    def _submit(self, run: Callable[[OutboxStore], T]) -> Future[T]:
        if self._closed:
            raise Unavailable("outbox.closed", "The outbox is closed.")
        work = _Work(run, Future())
        try:
            self._queue.put_nowait(work)
        except queue.Full as error:
            raise Unavailable("outbox.busy", "The outbox cannot write fast enough.", retriable=True) from error
        return work.done

    def _posted(self, done: Future[int]) -> None:
        error = done.exception()
        if error is not None:
            self._lose(error)

    def _lose(self, error: BaseException) -> None:
        self._lost_count += 1
        _log.error("a message was lost before it reached the disk: %s", error)

    def _run(self, opened: Future[None]) -> None:
        """The writer thread."""
        try:
            self._store = self._open()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the start
            opened.set_exception(_wrapped(error))
            return
        self._state = self._store.state
        opened.set_result(None)
        stopping = False
        while not stopping:
            batch, stopping = self._take()
            batch = [work for work in batch if work.done.set_running_or_notify_cancel()]
            if batch:
                self._execute(batch)
        if self._store is not None:
            self._store.close()

    def _take(self) -> tuple[list[_Work], bool]:
        batch: list[_Work] = []
        work = self._queue.get()
        while work is not None and len(batch) < _BATCH_COUNT:
            batch.append(work)
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        if work is not None:
            batch.append(work)
        return batch, work is None

    def _execute(self, batch: list[_Work]) -> None:
        """Do a batch in one transaction; a damaged file is replaced and the batch done again in the new one."""
        before = self._state
        try:
            results = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the result
            for work in batch:
                work.done.set_exception(_wrapped(error))
            return
        for work, result in zip(batch, results, strict=True):
            if isinstance(result, SkerryError):
                work.done.set_exception(result)
            else:
                work.done.set_result(result)
        if self._state != before:
            self._tell_listeners()

    def _transact(self, batch: list[_Work]) -> list[Any]:
        if self._store is None:
            self._store = self._open()
        try:
            results = _transact(self._store, batch)
        except Exception as error:
            if not _damaged(error):
                raise
            damaged, self._store = self._store, None
            damaged.close()
            self._store = self._open_anew(str(error))
            results = _transact(self._store, batch)
        self._state = self._store.state
        return results

    def _open(self) -> OutboxStore:
        try:
            return self._store_at_path()
        except (sqlite3.DatabaseError, StorageFailure) as error:
            if not _damaged(error):
                raise
            return self._open_anew(str(error))

    def _store_at_path(self) -> OutboxStore:
        from agent.outbox.store import OutboxStore

        return OutboxStore(self._path, limit_bytes=self._limit_bytes, new_epoch=_new_epoch())

    def _open_anew(self, why: str) -> OutboxStore:
        """Keep the damaged file for a look (one only, so that the disk cannot fill) and begin a new epoch."""
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        store = self._store_at_path()
        message = f"The outbox was damaged and began anew; what waited in it is lost. {why}"
        with store.transaction():
            store.add([self._event("outbox.damaged", message)])
        return store


def _new_epoch() -> str:
    return secrets.token_hex(8)


def _damaged(error: BaseException) -> bool:
    """Whether the file itself is damaged, as against busy, full or unreadable."""
    if isinstance(error, sqlite3.DatabaseError):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
    return isinstance(error, StorageFailure) and error.code == "outbox.damaged"


def _transact(store: OutboxStore, batch: list[_Work]) -> list[Any]:
    results: list[Any] = []
    with store.transaction():
        for work in batch:
            try:
                results.append(work.run(store))
            except (Unavailable, StorageFailure):
                raise
            except SkerryError as error:
                results.append(error)
    return results


def _wrapped(error: BaseException) -> BaseException:
    if isinstance(error, SkerryError):
        return error
    if isinstance(error, (sqlite3.Error, OSError)):
        wrapped: SkerryError = StorageFailure(
            "outbox.storage",
            f"The outbox cannot be written: {error}.",
            hint="Check free space and permissions of the state folder.",
            retriable=True,
        )
    else:
        wrapped = InternalError("outbox.defect", f"The outbox failed: {error!r}."[:300])
    wrapped.__cause__ = error
    return wrapped
