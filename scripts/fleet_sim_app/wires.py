"""A simulated device's connections: the agent's own MQTT connector, counted and with a switch for being out of reach.

Rules: the session is `agent.link.mqtt`'s, byte for byte what a device speaks (docs/decisions/0014 says why it is not
another library's). A device that is out of reach loses what it has and gets nothing new; where only MQTT is blocked,
HTTPS goes on. A limit on connections being
opened at once keeps the machine that simulates from being what is measured.
"""

from __future__ import annotations

import asyncio

from agent.identity.store import Credentials, Identity
from agent.link.connection import Connection, Connector, Receive
from scripts.fleet_sim_app.figures import Figures
from shared.errors import SkerryError, Unavailable

__all__ = ["SwitchedConnector"]


class SwitchedConnector:
    """Opens connections while the device is in reach (the agent's seam `Connector`)."""

    def __init__(self, real: Connector, at_once: asyncio.Semaphore, figures: Figures) -> None:
        self._real = real
        self._at_once = at_once
        self._figures = figures
        self._open: _Counted | None = None
        self.reachable = True
        self.blocked = False

    async def connect(self, identity: Identity, credentials: Credentials, receive: Receive) -> Connection:
        """A connection, or `link.unavailable` while out of reach."""
        if not self.reachable or self.blocked:
            raise _out_of_reach()
        figures = self._figures

        def counted(topic: str, payload: bytes) -> None:
            figures.received_bytes += len(payload)
            if topic == "down":
                figures.documents += 1
            else:
                figures.watermarks += 1
            receive(topic, payload)

        async with self._at_once:
            try:
                real = await self._real.connect(identity, credentials, counted)
            except SkerryError as error:
                figures.refused_connects += 1
                figures.problem(error.code)
                raise
        self._open = _Counted(real, figures)
        return self._open

    async def cut(self) -> None:
        """End the connection; the link opens another one when it can."""
        if self._open is not None:
            await self._open.close()


class _Counted:
    """A connection whose traffic is counted."""

    def __init__(self, real: Connection, figures: Figures) -> None:
        self._real = real
        self._figures = figures
        self._counted = True
        figures.connects += 1
        figures.connected += 1

    def publish(self, topic: str, payload: bytes) -> None:
        self._real.publish(topic, payload)
        self._figures.published += 1
        self._figures.published_bytes += len(payload)

    async def closed(self) -> str:
        return await self._real.closed()

    async def close(self) -> None:
        if self._counted:
            self._counted = False
            self._figures.connected -= 1
        await self._real.close()


def _out_of_reach() -> Unavailable:
    return Unavailable("link.unavailable", "This device is out of reach, as the scenario says.", retriable=True)
