"""What a run needs of the hub that works on it: the database, the devices, the places to listen, the way to devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hub.audit.log import AuditLog
from hub.blobs.store import BlobStore
from hub.federated.membership import RunMembers
from hub.federated.outcome import HandedOver, RunOutcome
from hub.store.database import Database
from shared.clock import Clock

__all__ = ["HandsOver", "Places", "Stage", "Tell"]

Tell = Callable[[str, bytes], None]
"""Hands an offer for a device to the broker, without a promise."""


class HandsOver(Protocol):
    """Makes a version of what a run has made. Blocks, perhaps for minutes."""

    def finish(self, outcome: RunOutcome) -> HandedOver:
        """Register the weights; again with the same run: the same answer."""
        ...

    def stop(self) -> None:
        """End what runs, because the hub ends."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """host: to listen on; public_host: as devices reach it. The certificate is the hub's, which devices trust (`ca`).

    command: of the worker. program: the file of a Flower app for stock nodes; None: none can take part. device_ca: the
    certificate (DER) of the authority of the devices.
    """

    host: str
    public_host: str
    port: int
    certificate: Path
    key: Path
    ca: Path
    folder: Path
    command: Sequence[str]
    program: Path | None = None
    device_ca: bytes = b""

    def address(self, port: int) -> str:
        """Where devices join."""
        host = f"[{self.public_host}]" if ":" in self.public_host else self.public_host
        return f"{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """All of it. holder: this hub's name among those that share the database. handover: None: the weights are kept."""

    db: Database
    clock: Clock
    audit: AuditLog
    blobs: BlobStore
    members: RunMembers
    places: Places
    holder: str
    tell: Tell
    handover: HandsOver | None = None
