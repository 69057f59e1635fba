"""How long windows, verdicts and metrics are kept, period by period."""

from __future__ import annotations

from hub.store.database import Database
from hub.store.device_errors import prune_errors
from hub.store.failures import plain_errors
from hub.store.windows import prune_windows
from shared.clock import Clock

__all__ = ["WindowRetention"]

_MARKS_S = 400 * 86_400.0  # a mark must outlive whatever a device may still have in its outbox


class WindowRetention:
    """Removes what is older than `keep_s`; marks of what was counted stay longer."""

    def __init__(self, db: Database, clock: Clock, keep_s: float) -> None:
        self._db = db
        self._clock = clock
        self._keep_s = keep_s

    def prune(self) -> int:
        """Remove old periods; returns how many rows. Error `database.unavailable`."""
        now = self._clock.now()
        with plain_errors(), self._db.write_rows() as connection:
            gone = prune_errors(connection, now - self._keep_s)
            return gone + prune_windows(connection, now - self._keep_s, now - max(_MARKS_S, self._keep_s))
