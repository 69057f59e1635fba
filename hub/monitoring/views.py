"""What people and Prometheus ask of monitoring."""

from __future__ import annotations

from typing import Any

from hub.store.database import Database
from hub.store.drift import ResultRow, latest_results, list_metrics, list_results
from hub.store.models import get_model
from hub.store.page import PageRequest
from hub.store.registry import get_version
from shared.clock import Clock

__all__ = ["DriftViews"]


class DriftViews:
    """Reads only."""

    def __init__(self, db: Database, clock: Clock, period_s: int) -> None:
        self._db = db
        self._clock = clock
        self.period_s = period_s

    def latest(self, model: str, version: int | None = None) -> list[ResultRow]:
        """The newest verdict of each version and level; errors `model.unknown`, `version.unknown`."""
        with self._db.read() as connection:
            get_model(connection, model)
            if version is not None:
                get_version(connection, model, version)
            return latest_results(connection, model, version)

    def everything(self) -> list[ResultRow]:
        """The newest verdict of each model, version and level."""
        with self._db.read() as connection:
            return latest_results(connection)

    def history(self, model: str, version: int, level: str, page: PageRequest) -> list[ResultRow]:
        """Verdicts, newest first; error `version.unknown`."""
        with self._db.read() as connection:
            get_version(connection, model, version)
            return list_results(connection, model, version, level, page)

    def metrics(self, model: str, hours: float) -> list[dict[str, Any]]:
        """What applications counted; error `model.unknown`."""
        with self._db.read() as connection:
            get_model(connection, model)
            return list_metrics(connection, model, self._clock.now() - hours * 3600.0)
