"""The hub's end of the link for tests: takes messages in sequence and confirms them, on a real broker or in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import UNSET

from agent.identity.store import Credentials, Identity
from agent.link.connection import Connection, Receive
from agent.link.exchange import Request, Result
from shared.errors import Unavailable
from shared.wire.down import DesiredState, Watermark, encode
from shared.wire.up import Envelope, decode_envelope


class Ledger:
    """Commits strictly in sequence, as the hub does. In order: `received` is all that came, copies too, `committed`
    what counted, and `log` its numbers."""

    def __init__(self) -> None:
        self.epoch = ""
        self.now: Callable[[], float] | None = None
        self.watermark = 0
        self.log: list[tuple[int, int]] = []
        self.received: list[Envelope] = []
        self.committed: list[Envelope] = []

    def take(self, data: bytes) -> Watermark:
        envelope = decode_envelope(data)
        self.received.append(envelope)
        if envelope.epoch != self.epoch and envelope.first_seq > 1:
            return self._mark(envelope.epoch, 0)
        if envelope.epoch != self.epoch:
            self.epoch, self.watermark = envelope.epoch, 0
        if envelope.first_seq <= self.watermark + 1 <= envelope.seq:
            self.watermark = envelope.seq
            self.log.append((envelope.first_seq, envelope.seq))
            self.committed.append(envelope)
        return self._mark(self.epoch, self.watermark)

    def _mark(self, epoch: str, seq: int) -> Watermark:
        return Watermark(epoch=epoch, seq=seq, hub_s=UNSET if self.now is None else self.now())


class MemoryConnection:
    """One connection to a `MemoryHub`."""

    def __init__(self, hub: MemoryHub, receive: Receive) -> None:
        self.hub = hub
        self.receive = receive
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def publish(self, topic: str, payload: bytes) -> None:
        if self._end.done():
            raise Unavailable("link.closed", "closed")
        self.hub.published.append(topic)
        mark = self.hub.ledger.take(payload) if self.hub.takes(len(self.hub.published)) else None
        if mark is not None and self.hub.confirms:
            self.receive("down/ack", encode(mark))

    def cut(self) -> None:
        if not self._end.done():
            self._end.set_result("cut")

    async def closed(self) -> str:
        return await asyncio.shield(self._end)

    async def close(self) -> None:
        self.cut()


class MemoryHub:
    """A `Connector` whose behaviour the test decides. `takes(n)`: whether the n-th message arrives."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.published: list[str] = []
        self.connections: list[MemoryConnection] = []
        self.takes: Callable[[int], bool] = lambda _number: True
        self.confirms = True
        self.reachable = True
        self.attempts = 0
        self.retained: DesiredState | None = None

    async def connect(self, identity: Identity, credentials: Credentials, receive: Receive) -> Connection:
        del identity, credentials
        self.attempts += 1
        if not self.reachable:
            raise Unavailable("link.unavailable", "no way")
        connection = MemoryConnection(self, receive)
        self.connections.append(connection)
        if self.retained is not None:
            receive("down", encode(self.retained))
        return connection


class MemoryFallback:
    """The HTTPS way, in memory. An answer is given only while `answers` is set."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.requests: list[Request] = []
        self.desired: DesiredState | None = None
        self.reachable = True
        self.answers = asyncio.Event()
        self.answers.set()

    async def exchange(self, request: Request) -> Result:
        self.requests.append(request)
        if not self.reachable:
            raise Unavailable("link.https", "no way")
        mark = None
        for data in request.messages:
            mark = self.ledger.take(data)
        await self.answers.wait()
        etag = f'"{self.desired.revision}"' if self.desired else ""
        changed = self.desired is not None and etag != request.etag
        return Result(
            etag=etag,
            desired=encode(self.desired) if changed and self.desired else None,
            epoch=mark.epoch if mark else None,
            watermark=mark.seq if mark else 0,
            rtt_s=0.5 if mark else None,
            hub_s=1000.0,
            wall_s=1060.25,
        )
