"""MQTT 3.1.1 over mutual TLS with paho-mqtt, driven by the event loop (no thread, no polling). Only paho importer.

Rules: clean session, client id = device id, no will; one paho client per connection, so that paho never sends again on
its own (the outbox decides what is sent again). Connecting and the handshake run in a worker thread with a deadline.
The event loop wakes for the socket, and every third of the keep-alive for the ping.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from agent.identity.store import Credentials, Identity
from agent.link.connection import Connection, Receive
from shared import limits
from shared.errors import SkerryError, StorageFailure, Unauthorised, Unavailable, Untrusted
from shared.tls import client_context, excuse_clock

__all__ = ["MqttConnector"]

_QUEUED_COUNT = 4096
_REFUSED_CODES = frozenset({"Not authorized", "Bad user name or password", "Client identifier not valid"})


class MqttConnector:
    """Opens MQTT connections with the device's certificate."""

    def __init__(self, *, timeout_s: float, keepalive_s: int) -> None:
        self._timeout_s = timeout_s
        self._keepalive_s = keepalive_s

    async def connect(self, identity: Identity, credentials: Credentials, receive: Receive) -> Connection:
        """Connect, log in and subscribe within the deadline."""
        session = _Session(identity, receive, self._keepalive_s, self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                await session.open(credentials)
        except BaseException as error:
            await session.close()
            if isinstance(error, TimeoutError):
                raise _unavailable(identity, "no answer in time") from error
            raise
        return session


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = client_context(credentials.hub_ca)
        context.load_cert_chain(credentials.certificate, credentials.key)
        excuse_clock(context, credentials.known_s)
    except (ssl.SSLError, OSError) as error:
        raise StorageFailure("identity.damaged", f"Key or certificate cannot be used: {error}.") from error
    return context


def _unavailable(identity: Identity, why: str) -> Unavailable:
    return Unavailable(
        "link.unavailable",
        f"The message broker at {identity.mqtt_host}:{identity.mqtt_port} cannot be reached: {why}."[:300],
        retriable=True,
    )


async def _in_thread(work: Callable[[], None], abandoned: Callable[[], None]) -> None:
    """Run `work` in a daemon thread, which cannot delay the end of the process; `abandoned` if nobody waits for it."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if waiting.cancelled():
            abandoned()
        elif error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # noqa: BLE001 - handed to whoever waits
            error = caught
        try:
            loop.call_soon_threadsafe(settle, error)
        except RuntimeError:  # the loop has ended meanwhile
            abandoned()

    threading.Thread(target=run, name="mqtt-connect", daemon=True).start()
    await waiting


class _Session:
    """One connection from its making to its end."""

    def __init__(self, identity: Identity, receive: Receive, keepalive_s: int, timeout_s: float) -> None:
        self._identity = identity
        self._receive = receive
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._prefix = f"fleet/{identity.device_id}/"
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=identity.device_id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = timeout_s
        self._client.max_inflight_messages_set(limits.MAX_UP_BATCH_COUNT * 4)
        self._client.max_queued_messages_set(_QUEUED_COUNT)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._client.on_socket_register_write = self._want_write
        self._client.on_socket_close = self._forget_socket

    async def open(self, credentials: Credentials) -> None:
        """Connect in a thread, then follow the socket here until the subscription is granted."""
        identity = self._identity
        try:
            await _in_thread(lambda: self._connect(credentials), self._abandon)
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(
                "link.certificate",
                f"The broker's certificate is not valid: {error.verify_message}.",
                hint="Check this device's clock and that the hub is the one it enrolled with.",
            ) from error
        except (OSError, ValueError) as error:
            raise _unavailable(identity, str(error) or type(error).__name__) from error
        sock = self._client.socket()
        if sock is None:
            raise _unavailable(identity, "the connection ended at once")
        self._descriptor = sock.fileno()
        self._loop.add_reader(self._descriptor, self._can_read)
        self._flush()
        self._tick()
        await self._ready

    def _connect(self, credentials: Credentials) -> None:
        self._client.tls_set_context(_context(credentials))
        self._client.connect(self._identity.mqtt_host, self._identity.mqtt_port, keepalive=self._keepalive_s)

    def _abandon(self) -> None:
        """The thread connected after nobody waited any more."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def publish(self, topic: str, payload: bytes) -> None:
        """Hand a message to the socket's queue."""
        info = self._client.publish(self._prefix + topic, payload, qos=1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Unavailable("link.closed", "The connection to the broker is not open.", retriable=True)

    async def closed(self) -> str:
        """Wait for the end."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Say goodbye if possible and let go of the socket."""
        if self._descriptor >= 0:
            self._client.disconnect()
            self._flush()
        self._end("closed by the agent")
        if not self._ready.done():
            self._ready.cancel()
        elif not self._ready.cancelled():
            self._ready.exception()

    def _end(self, why: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock = self._client.socket()
        self._forget_socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()
        if not self._ended.done():
            self._ended.set_result(why)
        self._fail(_unavailable(self._identity, why))

    def _forget_socket(self, *_: Any) -> None:
        """Stop following the socket; paho also calls this before it closes the socket by itself."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._descriptor = -1

    def _fail(self, error: SkerryError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _tick(self) -> None:
        if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end("the broker no longer answers")
            return
        self._timer = self._loop.call_later(self._keepalive_s / 3, self._tick)

    def _can_read(self) -> None:
        """Read what is there; TLS may hold more than the socket shows."""
        while self._descriptor >= 0:
            code = self._client.loop_read()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._end(str(code))
                return
            sock: Any = self._client.socket()
            if sock is None or not sock.pending():
                return

    def _want_write(self, client: Client, userdata: Any, sock: Any) -> None:
        """Called by paho, also from the connecting thread."""
        del client, userdata, sock
        self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        if self._descriptor < 0:
            return
        code = self._client.loop_write()
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(str(code))
        elif self._descriptor < 0:
            return  # that was the goodbye, and paho has closed the socket
        elif self._client.want_write():
            self._loop.add_writer(self._descriptor, self._flush)
        else:
            self._loop.remove_writer(self._descriptor)

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del userdata, flags, properties
        if not reason.is_failure:
            # Not `down/#`, which takes in `down` itself: each document would come twice.
            client.subscribe([(f"{self._prefix}down", 0), (f"{self._prefix}down/+", 0)])
        elif reason.getName() in _REFUSED_CODES:
            self._fail(_refused(f"The broker refused this device: {reason.getName()}."))
        else:
            self._fail(_unavailable(self._identity, reason.getName()))

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        del client, userdata, mid, properties
        if any(reason.is_failure for reason in reasons):
            self._fail(_refused("The broker refused this device its own topics."))
        elif not self._ready.done():
            self._ready.set_result(None)

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        del client, userdata
        self._receive(message.topic.removeprefix(self._prefix), bytes(message.payload))

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del client, userdata, flags, properties
        self._end(str(reason))


def _refused(message: str) -> Unauthorised:
    return Unauthorised(
        "link.refused", message, hint="The device may be revoked. Ask the operator, then enrol it again."
    )
