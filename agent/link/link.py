"""Keeps the device in touch with the hub: delivers the outbox, takes watermarks and the desired state.

Rules: always tries MQTT, with exponential back-off and jitter; messages leave in order and are sent again until the
hub has confirmed them; a desired state is on the disk before it is acted upon; after a time without MQTT the hub is
asked over HTTPS as well. A device whose disk gives no outbox still learns what it should run. Nothing that the
network does ends this task: failures are kept for `status` and logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from agent.link.connection import Connection, Connector
from agent.link.exchange import Request
from agent.link.fallback import Fallback
from agent.link.meter import LinkMeter, LinkReadings
from agent.link.ports import Documents, Identities, Messages
from agent.link.window import SendWindow
from agent.ota.backoff import Backoff, delay_s
from agent.outbox.outbox import Message
from agent.settings import LinkSettings
from shared import limits
from shared.clock import Clock
from shared.errors import SkerryError
from shared.wire.down import DesiredState, decode_watermark
from shared.wire.up import Event

__all__ = ["Link", "LinkStatus"]

_log = logging.getLogger(__name__)
_STEADY_S = 60.0
_SEND_BYTES = limits.MIB
OnDesired = Callable[[DesiredState], Awaitable[None]]


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """For people. `since_s`: when the state began (seconds since 1970); `problem`: the last failure, in words."""

    connected: bool = False
    since_s: float = 0.0
    attempts: int = 0
    problem: str = ""
    https_ok_s: float | None = None
    desired_revision: int | None = None


class Link:
    """One device's link. `random` gives numbers in [0, 1)."""

    def __init__(
        self,
        *,
        store: Identities,
        outbox: Messages,
        desired: Documents,
        connector: Connector,
        fallback: Fallback,
        on_desired: OnDesired,
        clock: Clock,
        settings: LinkSettings,
        random: Callable[[], float],
        on_offer: Callable[[bytes], None] | None = None,
    ) -> None:
        """`on_offer`: takes an offer to train as it came, or refuses it (`SkerryError`); None: nobody trains here."""
        self._store = store
        self._outbox = outbox
        self._desired = desired
        self._connector = connector
        self._fallback = fallback
        self._on_desired = on_desired
        self._clock = clock
        self._settings = settings
        self._random = random
        self._on_offer = on_offer
        self._retry = Backoff(base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)
        self._window = SendWindow(
            settings.window_count, Backoff(base_s=settings.stall_base_s, cap_s=settings.stall_cap_s)
        )
        self._status = LinkStatus(since_s=clock.now())
        self._offline_since_s = clock.monotonic()
        self._wake = asyncio.Event()
        self._arrived = asyncio.Event()
        self._offline = asyncio.Event()
        self._renewed = asyncio.Event()
        self._document: bytes | None = None
        self._acks: deque[tuple[bytes, float, float]] = deque(maxlen=64)
        self._meter = LinkMeter()
        self._offers: deque[bytes] = deque(maxlen=8)
        self._told: set[str] = set()
        self._etag = ""

    def status(self) -> LinkStatus:
        """Whether the hub is reached, and if not, why."""
        current = self._desired.current
        return msgspec.structs.replace(self._status, desired_revision=current.revision if current else None)

    def take_readings(self) -> LinkReadings:
        """How the link did and how far off the clock is, since the last call."""
        return self._meter.take(connected=self._status.connected)

    def reconnect(self) -> None:
        """Begin a new connection, because the certificate has changed."""
        self._renewed.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        self._outbox.on_change(wake)
        self._offline.set()
        kept = await asyncio.to_thread(self._desired.load)
        if kept is not None:
            await self._on_desired(kept)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_connected(), name="link.mqtt")
            group.create_task(self._ask_while_offline(), name="link.https")
            # Not a connection's: one that ends must not stop a document between the disk and whoever acts upon it.
            group.create_task(self._take_arrivals(), name="link.arrivals")

    async def _keep_connected(self) -> None:
        attempt = 0
        while True:
            began_s = self._clock.monotonic()
            try:
                await self._connect_and_serve()
            except SkerryError as error:
                self._failed(attempt + 1, str(error))
            attempt = 0 if self._clock.monotonic() - began_s >= _STEADY_S else attempt + 1
            if self._renewed.is_set():
                self._renewed.clear()
                attempt = 0
                continue
            await _wait(self._renewed, delay_s(self._retry, attempt, self._random()))

    async def _connect_and_serve(self) -> None:
        self._renewed.clear()  # whoever asks from here on wants yet another connection
        identity = await asyncio.to_thread(self._store.load)
        connection = await self._connector.connect(identity, self._store.credentials(), self._receive)
        self._status = LinkStatus(connected=True, since_s=self._clock.now(), https_ok_s=self._status.https_ok_s)
        self._meter.connected()
        self._offline.clear()
        try:
            why = await self._serve(connection)
        finally:
            self._offline_since_s = self._clock.monotonic()
            self._offline.set()
        self._failed(0, why)

    def _failed(self, attempts: int, why: str) -> None:
        if self._status.connected or why[:300] != self._status.problem:
            _log.warning("no connection to the broker, which is tried again and again: %s", why)
        since_s = self._clock.now() if self._status.connected else self._status.since_s
        self._status = msgspec.structs.replace(
            self._status, connected=False, since_s=since_s, attempts=attempts, problem=why[:300]
        )

    async def _serve(self, connection: Connection) -> str:
        """Use a connection until it ends; returns why it ended."""
        ended = asyncio.create_task(connection.closed(), name="link.closed")
        renewed = asyncio.create_task(self._renewed.wait(), name="link.renewed")
        delivering = asyncio.create_task(self._deliver(connection), name="link.deliver")
        tasks: list[asyncio.Task[Any]] = [ended, renewed, delivering]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.close()
        if delivering in done:
            delivering.result()
        return ended.result() if ended in done else "the certificate was renewed"

    async def _deliver(self, connection: Connection) -> None:
        state = self._outbox.state
        epoch, watermark = state.epoch, state.watermark
        self._window.restart(watermark)
        self._meter.begin(epoch)
        while True:
            self._wake.clear()
            state, now_s = self._outbox.state, self._clock.monotonic()
            if state.epoch != epoch:
                epoch, watermark = state.epoch, state.watermark
                self._window.restart(watermark)
                self._meter.begin(epoch)
            elif state.watermark != watermark:
                watermark = state.watermark
                self._window.confirmed(watermark, now_s, self._random())
            deadline_s = self._window.deadline_s
            if deadline_s is not None and now_s >= deadline_s:
                self._window.stalled(watermark)
                self._meter.begin(epoch)
            if self._window.room and self._window.position < state.next_seq - 1:
                await self._send_some(connection)
                continue
            wait_s = None if self._window.deadline_s is None else self._window.deadline_s - now_s
            await _wait(self._wake, wait_s)

    async def _send_some(self, connection: Connection) -> None:
        messages = await self._outbox.pending(self._window.position, count=self._window.room, limit_bytes=_SEND_BYTES)
        for message in messages:
            now_s = self._clock.monotonic()
            connection.publish(f"up/{message.kind}", message.data)
            self._window.sent(message.seq, now_s, self._random())
            self._meter.sent(message.seq, now_s)

    def _receive(self, topic: str, payload: bytes) -> None:
        """From the transport: only note what came; the newest document is the only one that counts."""
        if topic == "down":
            self._document = payload
        elif topic == "down/ack":
            self._acks.append((payload, self._clock.monotonic(), self._clock.now()))
        elif topic == "down/training" and self._on_offer is not None:
            self._offers.append(payload)
        self._arrived.set()

    async def _take_arrivals(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._acks:
                data, now_s, wall_s = self._acks.popleft()
                await self._taking(partial(self._take_ack, now_s=now_s, wall_s=wall_s), data)
            if self._document is not None:
                document, self._document = self._document, None
                await self._taking(self._take_document, document)
            while self._offers:
                await self._taking(self._take_offer, self._offers.popleft())

    async def _taking(self, take: Callable[[bytes], Awaitable[None]], data: bytes) -> bool:
        """Whether it could be used; if not, it is refused and told to the hub once, and the link goes on."""
        try:
            await take(data)
            return True
        except SkerryError as error:
            _log.warning("refused what came down: %s", error)
            self._status = msgspec.structs.replace(self._status, problem=error.message[:300])
            if error.code not in self._told:
                self._told.add(error.code)
                self._outbox.post(Event(code=error.code, severity="warning", message=error.message[:500]))
            return False

    async def _take_ack(self, data: bytes, *, now_s: float, wall_s: float) -> None:
        mark = decode_watermark(data)
        if not self._outbox.is_open:
            return  # it comes again when something is sent
        hub_s = None if mark.hub_s is msgspec.UNSET else mark.hub_s
        self._meter.confirmed(mark.epoch, mark.seq, hub_s, now_s, wall_s)
        state = self._outbox.state
        if mark.epoch != state.epoch or mark.seq >= state.watermark:
            await self._outbox.confirm(mark.epoch, mark.seq)
            return
        self._window.answered_behind()
        if self._window.hub_lost_its_place:
            await self._follow_a_hub_that_went_back(mark.seq)

    async def _follow_a_hub_that_went_back(self, seq: int) -> None:
        """The hub lost what it had confirmed, which is gone here too; what is still here goes on in a new epoch."""
        message = f"The hub went back to message {seq}; those up to {self._outbox.state.watermark} it had confirmed."
        await self._outbox.begin_epoch("link.hub_went_back", message)

    async def _take_document(self, data: bytes) -> None:
        desired = await asyncio.to_thread(self._desired.accept, data)
        if desired is not None:
            await self._on_desired(desired)

    async def _take_offer(self, data: bytes) -> None:
        if self._on_offer is not None:
            self._on_offer(data)

    async def _ask_while_offline(self) -> None:
        while True:
            await self._offline.wait()
            waited_s = self._clock.monotonic() - self._offline_since_s
            if waited_s < self._settings.fallback_after_s:
                await asyncio.sleep(self._settings.fallback_after_s - waited_s)
                continue
            try:
                more = await self._ask_over_https()
            except SkerryError as error:
                _log.info("no way to the hub over HTTPS either: %s", error)
                more = False
            if not more:
                await asyncio.sleep(self._settings.fallback_interval_s * (0.75 + 0.5 * self._random()))

    async def _ask_over_https(self) -> bool:
        """One exchange; True when messages were confirmed and more are waiting."""
        before = self._outbox.state
        messages: list[Message] = []
        if self._outbox.is_open:
            messages = await self._outbox.pending(
                before.watermark, count=limits.MAX_UP_BATCH_COUNT, limit_bytes=limits.MAX_UP_BATCH_BYTES
            )
        result = await self._fallback.exchange(Request(etag=self._etag, messages=[m.data for m in messages]))
        self._meter.asked(result.rtt_s, result.hub_s, result.wall_s)
        self._status = msgspec.structs.replace(self._status, https_ok_s=self._clock.now())
        moved = result.epoch is not None and await self._outbox.confirm(result.epoch, result.watermark)
        # Compared with what was confirmed before it was asked: MQTT may be back and further than this answer.
        same = before.epoch == result.epoch == self._outbox.state.epoch
        if messages and same and result.watermark < before.watermark:
            await self._follow_a_hub_that_went_back(result.watermark)
        if result.desired is None or await self._taking(self._take_document, result.desired):
            self._etag = result.etag
        return moved and self._outbox.state.pending_count > 0


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    """Until the event is set or the time is over."""
    try:
        async with asyncio.timeout(None if timeout_s is None else max(0.0, timeout_s)):
            await event.wait()
    except TimeoutError:
        return
