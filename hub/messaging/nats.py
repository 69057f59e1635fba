"""The only module that speaks to nats-py: connections, requests, streams and a pull consumer, with our errors.

Rules: a connection reconnects for ever once it has been made; every request has a deadline; what a consumer has asked
for and not yet handed out is bounded by one batch. A task that is cancelled in here ends: nats-py forgets some
cancellations (`except CancelledError: pass`, and `wait_for` before Python 3.12), so each call looks for itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from shared.errors import Unavailable

__all__ = ["ConsumerSpec", "NatsLink", "Pulled", "Puller", "StreamSpec"]

_LOG = logging.getLogger(__name__)
_CONNECT_S = 20.0
# Short: a restarted broker lets devices in as soon as it listens, and asks a hub that must be there by then.
_RECONNECT_S: Any = 0.1
_PULL_S = 2.0
_AT_ONCE = 16
_MAX_WAITING = 20_000
Handler = Callable[[bytes], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A stream on file; the oldest messages go when a bound is reached."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    max_age_s: float
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """A durable pull consumer. What is not acknowledged within `ack_wait_s` is delivered again."""

    stream: str
    name: str
    ack_wait_s: float
    max_unacknowledged: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """One message of a stream; `receipt` acknowledges it."""

    subject: str
    data: bytes
    receipt: str


class _Cancellable:
    """Around calls of nats-py: a cancellation that came meanwhile is raised, also when the call ended otherwise."""

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task else 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._task is None or isinstance(error, asyncio.CancelledError):
            return
        if self._task.cancelling() > self._before:
            raise asyncio.CancelledError from error


class NatsLink:
    """One connection as one user."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._running: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, servers: str, user: str, password: str, name: str, timeout_s: float = _CONNECT_S) -> NatsLink:
        """Connect to `servers` (URLs, separated by commas) within `timeout_s`; `broker.unreachable`."""

        async def failed(error: Exception) -> None:
            _LOG.warning("connection %s to the broker: %s", name, error or type(error).__name__)

        client = Client()
        try:
            async with asyncio.timeout(timeout_s):
                with _Cancellable():
                    await client.connect(
                        servers.split(","),
                        user=user,
                        password=password,
                        name=name,
                        error_cb=failed,
                        max_reconnect_attempts=-1,
                        reconnect_time_wait=_RECONNECT_S,
                        connect_timeout=5,
                    )
        except (nats.errors.Error, OSError, TimeoutError) as error:
            await client.close()
            raise Unavailable(
                "broker.unreachable",
                "The message broker does not accept the hub's connection.",
                hint="Check nats.url and that the broker has the users of the hub's secrets file.",
                retriable=True,
            ) from error
        except asyncio.CancelledError:
            await client.close()
            raise
        return cls(client)

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        try:
            async with asyncio.timeout(2):
                await self._client.flush()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            _LOG.info("the broker was gone before the connection was closed: %s", type(error).__name__)
        await self._client.close()

    async def publish(self, subject: str, data: bytes) -> None:
        """Hand over one message; `broker.unreachable` when too much is waiting for a lost broker."""
        try:
            with _Cancellable():
                await self._client.publish(subject, data)
        except nats.errors.Error as error:
            raise _unreachable() from error

    async def flush(self) -> None:
        """Return once the broker has all that was published; `broker.unreachable` after 10 s."""
        try:
            with _Cancellable():
                await self._client.flush()
        except (nats.errors.Error, TimeoutError) as error:
            raise _unreachable() from error

    async def ask_all(self, subject: str, data: bytes, window_s: float) -> list[bytes]:
        """All answers that arrive within `window_s` to one request."""
        answers: list[bytes] = []

        async def collect(message: Msg) -> None:
            if message.data:
                answers.append(message.data)

        inbox = self._client.new_inbox()
        try:
            with _Cancellable():
                subscription = await self._client.subscribe(inbox, cb=collect)
                await self._client.publish(subject, data, reply=inbox)
                await asyncio.sleep(window_s)
                await subscription.unsubscribe()
        except nats.errors.Error as error:
            raise _unreachable() from error
        return answers

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """The one answer to a request; `broker.unreachable`."""
        try:
            with _Cancellable():
                return (await self._client.request(subject, data, timeout=timeout_s)).data
        except (nats.errors.Error, TimeoutError) as error:
            raise _unreachable() from error

    async def serve(self, subject: str, handler: Handler, patience_s: float) -> None:
        """Answer requests, 16 at once; with several hubs each request goes to one of them.

        A request that has waited longer than `patience_s` is left: its asker has given up, and answering it would make
        the next one late, too. In a storm that keeps all the work for those who still wait.
        """
        waiting: deque[tuple[float, Msg]] = deque(maxlen=_MAX_WAITING)
        arrived = asyncio.Semaphore(0)

        async def accept(message: Msg) -> None:
            waiting.append((time.monotonic(), message))
            arrived.release()

        async def work() -> None:
            while True:
                await arrived.acquire()
                if not waiting:  # pushed out by newer ones
                    continue
                since, message = waiting.popleft()
                if time.monotonic() - since <= patience_s:
                    await self._respond(message, handler)

        for number in range(_AT_ONCE):
            self._running.add(asyncio.create_task(work(), name=f"answers {subject} {number}"))
        with _Cancellable():
            await self._client.subscribe(subject, queue="hub", cb=accept)
            await self._client.flush()

    async def _respond(self, message: Msg, handler: Handler) -> None:
        try:
            answer = await handler(message.data)
            if answer is not None:
                with _Cancellable():
                    await self._client.publish(message.reply, answer)
        except nats.errors.Error as error:
            _LOG.warning("an answer on %s could not be sent: %s", message.subject, type(error).__name__)

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Make the stream, or bring it to `spec`; `broker.stream`."""
        config = StreamConfig(
            name=spec.name,
            subjects=list(spec.subjects),
            max_bytes=spec.max_bytes,
            max_age=spec.max_age_s,
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            num_replicas=spec.replicas,
        )
        manager = self._client.jsm()
        try:
            with _Cancellable():
                try:
                    await manager.stream_info(spec.name)
                    await manager.update_stream(config)
                except nats.js.errors.NotFoundError:
                    await manager.add_stream(config)
        except (nats.errors.Error, nats.js.errors.Error) as error:
            raise _stream_error(spec.name, error) from error

    async def ensure_consumer(self, spec: ConsumerSpec) -> Puller:
        """Make the durable consumer, or bring it to `spec`, and open it; `broker.stream`."""
        config = ConsumerConfig(
            durable_name=spec.name,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=spec.ack_wait_s,
            max_ack_pending=spec.max_unacknowledged,
        )
        try:
            with _Cancellable():
                await self._client.jsm().add_consumer(spec.stream, config)
                puller = Puller(self._client, spec)
                await puller.open()
        except (nats.errors.Error, nats.js.errors.Error) as error:
            raise _stream_error(spec.stream, error) from error
        return puller


class Puller:
    """Pulls from a durable consumer; the next batch is on its way while the last one is being worked on."""

    def __init__(self, client: Client, spec: ConsumerSpec) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._stream = spec.stream
        self._inbox = client.new_inbox()
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._subscription: Any = None
        self._open = 0
        self._expires = 0.0

    async def open(self) -> None:
        """Start to listen."""

        async def arrived(message: Msg) -> None:
            self._queue.put_nowait(message)  # bounded: the server sends no more than was asked for

        self._subscription = await self._client.subscribe(self._inbox, cb=arrived)

    async def close(self) -> None:
        """Stop; what was pulled and not acknowledged is delivered again, here or elsewhere."""
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
        except nats.errors.Error as error:
            _LOG.info("the broker was gone before the subscription was ended: %s", type(error).__name__)

    async def batch(self, limit: int, wait_s: float) -> list[Pulled]:
        """Up to `limit` messages, as soon as there is one; empty after `wait_s`; `broker.stream` when it is gone."""
        try:
            await self._ask(limit)
            try:
                async with asyncio.timeout(wait_s):
                    first = await self._queue.get()
            except TimeoutError:
                return []
            found = self._take(first)
            while len(found) < limit and not self._queue.empty():
                found += self._take(self._queue.get_nowait())
            await self._ask(limit)
        except nats.errors.Error as error:
            raise _unreachable() from error
        return found

    async def acknowledge(self, messages: list[Pulled]) -> None:
        """Tell the broker that these are done."""
        try:
            with _Cancellable():
                for message in messages:
                    await self._client.publish(message.receipt, b"+ACK")
        except nats.errors.Error as error:
            raise _unreachable() from error

    async def _ask(self, limit: int) -> None:
        if self._open > 0 and time.monotonic() < self._expires:
            return
        request = json.dumps({"batch": limit, "expires": int(_PULL_S * 1e9)}).encode()
        with _Cancellable():
            await self._client.publish(self._subject, request, reply=self._inbox)
        self._open, self._expires = limit, time.monotonic() + _PULL_S + 0.5

    def _take(self, message: Msg) -> list[Pulled]:
        status = (message.headers or {}).get("Status")
        if status is None:
            self._open -= 1
            return [Pulled(message.subject, message.data, message.reply)]
        if status != "100":
            self._open = 0
        if status == "503" or (status == "409" and "Deleted" in (message.headers or {}).get("Description", "")):
            raise _stream_error(self._stream, RuntimeError("the stream or its consumer is gone"))
        return []


def _unreachable() -> Unavailable:
    return Unavailable(
        "broker.unreachable",
        "The message broker does not answer.",
        hint="The hub goes on by itself as soon as the broker is back.",
        retriable=True,
    )


def _stream_error(name: str, error: Exception) -> Unavailable:
    return Unavailable(
        "broker.stream",
        f"The broker does not serve the stream {name}: {error}."[:300],
        hint="Check the broker's disk space and nats.store_bytes.",
        retriable=True,
    )
