"""Which devices may be connected, asked for many at once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from hub.store.database import Database
from hub.store.failures import plain_errors
from hub.store.schema import devices

__all__ = ["ConnectionStore"]


class ConnectionStore:
    """Answers from the devices table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revoked_among(self, device_ids: Sequence[str]) -> set[str]:
        """Those of `device_ids` that are not active devices: revoked or unknown; `database.unavailable`."""
        if not device_ids:
            return set()
        query = select(devices.c.device_id).where(devices.c.device_id.in_(device_ids), devices.c.status == "active")
        with plain_errors(), self._database.read() as connection:
            return set(device_ids) - set(connection.scalars(query))
