"""How long the health of versions is kept, period by period."""

from __future__ import annotations

from hub.store.database import Database
from hub.store.failures import plain_errors
from hub.store.health import prune_health
from shared.clock import Clock

__all__ = ["HealthRetention"]


class HealthRetention:
    """Removes what is older than `keep_s`."""

    def __init__(self, db: Database, clock: Clock, keep_s: float) -> None:
        self._db = db
        self._clock = clock
        self._keep_s = keep_s

    def prune(self) -> int:
        """Remove old periods; returns how many rows. Error `database.unavailable`."""
        with plain_errors(), self._db.write_rows() as connection:
            return prune_health(connection, self._clock.now() - self._keep_s)
