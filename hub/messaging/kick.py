"""Closing the live connections of a device that may no longer have them, through the broker's system account.

The callout refuses a revoked device's next connection; the one that it has is found by its MQTT client id on every
server of the cluster and kicked. A connection that was let in just before the revocation may show up just after the
first look, so there is a second look. Every minute all connections are compared with the database, so that a hub that
died between revoking and kicking leaves no device connected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from hub.messaging.nats import NatsLink
from shared.errors import SkerryError, Unavailable

__all__ = ["ConnectionKicker", "ConnectionRegister"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.4
_SECOND_LOOK_S = 1.0
_KICK_S = 2.0
_PAGE = 1024
_SWEEP_S = 60.0


class ConnectionRegister(Protocol):
    """Who may be connected."""

    def revoked_among(self, device_ids: Sequence[str]) -> set[str]:
        """Those of the ids that are not active devices. Blocks."""
        ...


class _Connection(msgspec.Struct):
    cid: int
    mqtt_client: str = ""


class _Connections(msgspec.Struct):
    total: int = 0
    connections: list[_Connection] = []


class _Server(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    server: _Server
    data: _Connections = msgspec.field(default_factory=_Connections)


_DECODER = msgspec.json.Decoder(_Answer)


class ConnectionKicker:
    """Closes connections. `system` is a connection of the system account's user."""

    def __init__(self, system: NatsLink, register: ConnectionRegister) -> None:
        self._system = system
        self._register = register

    async def cut_off(self, device_id: str) -> int:
        """Close every connection of a device; returns how many there were. Takes about 2 s, the first close 0.5 s."""
        closed = await self._close(device_id)
        await asyncio.sleep(_SECOND_LOOK_S)
        return closed + await self._close(device_id)

    async def sweep_forever(self) -> None:
        """Every minute close the connections of devices that are not active."""
        while True:
            try:
                await self._sweep()
            except SkerryError as error:
                _LOG.warning("connections could not be compared with the database: %s", error)
            await asyncio.sleep(_SWEEP_S)

    async def _close(self, device_id: str) -> int:
        answers = await self._connections({"mqtt_client": device_id})
        for answer in answers:
            for connection in answer.data.connections:
                await self._kick(answer.server.id, connection.cid)
        return sum(len(answer.data.connections) for answer in answers)

    async def _sweep(self) -> None:
        offset, most = 0, 1
        while offset < most:
            answers = await self._connections({"limit": _PAGE, "offset": offset})
            most = max((answer.data.total for answer in answers), default=0)
            offset += _PAGE
            found = [(a.server.id, c) for a in answers for c in a.data.connections if c.mqtt_client]
            devices = sorted({connection.mqtt_client for _, connection in found if ":" not in connection.mqtt_client})
            gone = await asyncio.to_thread(self._register.revoked_among, devices)
            for server, connection in found:
                if connection.mqtt_client in gone:
                    _LOG.warning("device %s is not active any more and is disconnected", connection.mqtt_client)
                    await self._kick(server, connection.cid)

    async def _connections(self, options: dict[str, Any]) -> list[_Answer]:
        answers = await self._system.ask_all("$SYS.REQ.SERVER.PING.CONNZ", msgspec.json.encode(options), _LOOK_S)
        try:
            return [_DECODER.decode(answer) for answer in answers]
        except msgspec.DecodeError as error:
            raise Unavailable("broker.connections", f"The broker's list of connections: {error}."[:300]) from error

    async def _kick(self, server_id: str, cid: int) -> None:
        # As a request: the server ignores a kick that leaves it nowhere to answer.
        answer = await self._system.ask(f"$SYS.REQ.SERVER.{server_id}.KICK", msgspec.json.encode({"cid": cid}), _KICK_S)
        _LOG.debug("kicked connection %d: %s", cid, answer[:200])
