"""What the link needs of the parts beside it: who the device is, what waits to be sent, what it should run.

Rules: these are seams. On a device they are `IdentityStore`, `Outbox` and `DesiredStore`, with their files; the fleet
simulator gives the same link to thousands of devices that keep all this in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from agent.identity.store import Credentials, Identity
from agent.outbox.outbox import Message
from agent.outbox.rows import State
from shared.wire.down import DesiredState

__all__ = ["Documents", "Identities", "Messages"]


class Identities(Protocol):
    """Who the device is."""

    def load(self) -> Identity:
        """The identity; blocks."""
        ...

    def credentials(self) -> Credentials:
        """The files that TLS needs."""
        ...


class Messages(Protocol):
    """What waits for the hub; `agent.outbox.outbox.Outbox` says what each call promises."""

    @property
    def state(self) -> State: ...

    @property
    def is_open(self) -> bool: ...

    def on_change(self, listener: Callable[[], None]) -> None: ...

    def post(self, body: msgspec.Struct) -> None: ...

    async def pending(self, after_seq: int, *, count: int, limit_bytes: int) -> list[Message]: ...

    async def confirm(self, epoch: str, seq: int) -> bool: ...

    async def begin_epoch(self, code: str, message: str) -> None: ...


class Documents(Protocol):
    """The newest desired state; `load` and `accept` block."""

    @property
    def current(self) -> DesiredState | None: ...

    def load(self) -> DesiredState | None: ...

    def accept(self, data: bytes) -> DesiredState | None: ...
