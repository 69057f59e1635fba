"""The seam between the link and a transport: what the link needs of a connection, and what can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.identity.store import Credentials, Identity

__all__ = ["Connection", "Connector", "Receive"]

Receive = Callable[[str, bytes], None]
"""Called in the event loop with the part of the topic below `fleet/<device>/` and the payload; must not block."""


class Connection(Protocol):
    """An open, subscribed connection."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 1 without waiting; `topic` is below `fleet/<device>/`. `link.closed` when it is not open."""
        ...

    async def closed(self) -> str:
        """Wait for the end of the connection; returns why, in words."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Connector(Protocol):
    """Opens connections."""

    async def connect(self, identity: Identity, credentials: Credentials, receive: Receive) -> Connection:
        """A connection that is accepted and subscribed, or `Unavailable`/`Unauthorised`/`Untrusted` (`link.*`)."""
        ...
