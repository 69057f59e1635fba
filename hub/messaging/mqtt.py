"""The hub's own MQTT client: the only way to leave a *retained* message at the broker. The only user of paho here.

It connects with the publisher's certificate, with back-off, for ever. A message counts as published when the broker
has confirmed it (QoS 1 on this leg; devices subscribe with QoS 0, so the broker keeps no queue for them).
Client ids are unique per process: a second hub must not push the first one out.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from shared.errors import Unavailable
from shared.tls import client_context

__all__ = ["MqttPublisher", "unreachable"]

_LOG = logging.getLogger(__name__)
_MIN_BACKOFF_S, _MAX_BACKOFF_S = 1, 30
_KEEPALIVE_S = 30


class MqttPublisher:
    """Publishes; subscribes to nothing."""

    def __init__(self, host: str, port: int, *, name: str, ca: Path, certificate: Path, key: Path) -> None:
        self._host, self._port = host, port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.connected = asyncio.Event()
        context = client_context(ca)
        self._context, self._certificate, self._key = context, certificate, key
        self.reload()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"{name}:{secrets.token_hex(8)}", clean_session=True)
        self._client.tls_set_context(context)
        self._client.reconnect_delay_set(_MIN_BACKOFF_S, _MAX_BACKOFF_S)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    def reload(self) -> None:
        """Present what is in the certificate's files now, from the next connection on."""
        self._context.load_cert_chain(self._certificate, self._key)

    def start(self) -> None:
        """Connect in the background; `connected` tells when it is up."""
        self._loop = asyncio.get_running_loop()
        self._client.connect_async(self._host, self._port, _KEEPALIVE_S)
        self._client.loop_start()

    async def stop(self) -> None:
        """Disconnect; what was not confirmed counts as not published."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        self._gone()

    async def publish(self, topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> None:
        """Return when the broker has taken the message; an empty retained one removes what was retained.

        Errors: `broker.unreachable` (retriable) after `timeout_s`, or at once without a connection.
        """
        if not self.connected.is_set():
            raise unreachable()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        # The confirmation is handed to this loop by `call_soon_threadsafe`, so it cannot be handled before this line.
        self._waiting[info.mid] = waiter
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError as error:
            raise unreachable() from error
        finally:
            self._waiting.pop(info.mid, None)

    # --- called in paho's thread ---

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _LOG.warning("the broker refused the hub's publisher: %s", reason)
        else:
            self._call(self.connected.set)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        _LOG.info("the hub's publisher was disconnected: %s", reason)
        self._call(self._gone)

    def _on_publish(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._call(self._confirmed, mid)

    def _call(self, function: Any, *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- called in the event loop ---

    def _gone(self) -> None:
        self.connected.clear()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(unreachable())

    def _confirmed(self, mid: int) -> None:
        waiter = self._waiting.get(mid)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def unreachable() -> Unavailable:
    """The error of a message that the broker did not take."""
    return Unavailable(
        "broker.unreachable",
        "The message broker does not take the hub's messages.",
        hint="The hub goes on by itself as soon as the broker is back.",
        retriable=True,
    )
