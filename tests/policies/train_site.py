"""Triggers of training over a real database: verdicts, alerts, samples as rows, and runs that end when they are told.

    site = TrainSite(folder, url); site.verdict(1); site.alarm("input-drift")
    site.triggers.set("digits", {"when": [{"alarm": {}}]}, "olga"); site.tick()
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, update

from hub.alerts.config import load_config
from hub.deployments.compatibility import Compatibility
from hub.federated.definition import RunDefinition
from hub.federated.trigger_gathering import Gatherer
from hub.federated.triggers import TrainTriggers
from hub.rollouts.clockwork import MAX_STEP_S
from hub.store import schema
from hub.store.database import Connection, Database
from hub.store.page import PageRequest
from hub.store.triggers import FiringRow
from shared.errors import SkerryError
from tests.fleet_kit import FleetKit

__all__ = ["PAGE", "PERIOD_S", "RowRuns", "TrainSite"]

PAGE = PageRequest(limit=50)
PERIOD_S = 900
TICK_S = 60.0


class RowRuns:
    """Makes runs that are rows only. problem: raised instead; before: called when a run is about to be made."""

    def __init__(self, db: Database, clock: Any) -> None:
        self._db, self._clock = db, clock
        self.problem: BaseException | None = None
        self.before: Callable[[], None] = lambda: None
        self.made: list[tuple[RunDefinition, str, str, str]] = []

    def plan(self, definition: RunDefinition) -> object:
        if isinstance(self.problem, SkerryError):
            raise self.problem
        return None

    def create(
        self,
        definition: RunDefinition,
        *,
        by: str,
        reason: str = "",
        trigger: str = "",
        within: Callable[[Connection, str], None],
    ) -> object:
        self.before()
        if self.problem is not None:
            raise self.problem
        run_id = f"f-{len(self.made):012x}"
        with self._db.write() as connection:
            self.insert(connection, run_id, definition.model, by=by, reason=reason, trigger=trigger)
            within(connection, run_id)
        self.made.append((definition, by, reason, trigger))
        return None

    def insert(self, connection: Connection, run_id: str, model: str, **more: str) -> None:
        """A queued run."""
        table = schema.federated_runs
        values = {
            "run_id": run_id,
            "model": model,
            "version": 1,
            "state": "queued",
            "trigger": more.get("trigger", ""),
            "reason": more.get("reason", ""),
            "created_s": self._clock.now(),
            "created_by": more.get("by", "olga"),
        }
        for column in table.columns:  # what the rest of a run is does not matter here
            if not (column.nullable or column.primary_key or column.name in values):
                values[column.name] = 0 if column.type.python_type in (int, float) else "null"
        connection.execute(insert(table).values(**values))


class TrainSite(FleetKit):
    """One hub's triggers."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.runs = RowRuns(self.db, self.clock)
        self.gatherer = Gatherer(load_config(folder / "none.yaml").rules, Compatibility(), PERIOD_S)
        self.triggers = self.hub()
        self._dedup = 0

    def hub(self) -> TrainTriggers:
        """One more hub on the same database."""
        return TrainTriggers(self.db, self.clock, self.audit, self.runs, self.gatherer)

    def tick(self, ahead_s: float = TICK_S) -> int:
        """One look, some time after the last."""
        self.clock.now_s += ahead_s
        return self.triggers.run()

    def rest(self, seconds: float) -> int:
        """Look again and again for so long."""
        return sum(self.tick(MAX_STEP_S) for _ in range(int(seconds // MAX_STEP_S) + 1))

    def row(self, table: Any, **values: Any) -> None:
        with self.db.write() as connection:
            connection.execute(insert(table).values(**values))

    def verdict(self, version: int, period_s: int = PERIOD_S, rows: int = 500, value: float = 0.9) -> None:
        """A verdict on the fleet, whose promised accuracy is 0.92."""
        estimated = {
            "metric": "accuracy", "value": value, "low": value - 0.01, "high": value + 0.01, "n": rows,
            "promised": 0.92, "worse": value < 0.9,
        }  # fmt: skip
        result = {"estimated": [estimated]}
        self.row(
            schema.drift_results, model="digits", period_s=period_s, version=version, arm="", level="fleet",
            severity=1, rows=rows, result=result, state=b"",
        )  # fmt: skip

    def alarm(self, rule: str, version: int = 1, **more: Any) -> int:
        """An open alert; its number."""
        self._dedup += 1
        values = {
            "dedup": f"d{self._dedup}", "rule": rule, "severity": "warning", "model": "digits", "version": version,
            "level": "fleet", "state": "open", "breached": 1, "calm": 0, "period_s": PERIOD_S, "began_s": 1.0,
            "opened_s": 1.0, "acknowledged_by": "", "verdict": "", "note": "", "detail": {}, **more,
        }  # fmt: skip
        with self.db.write() as connection:
            made = insert(schema.alerts).values(**values).returning(schema.alerts.c.alert_id)
            return int(connection.execute(made).scalar_one())

    def resolve(self) -> None:
        """All alerts are over."""
        with self.db.write() as connection:
            connection.execute(update(schema.alerts).values(state="resolved"))

    def end_runs(self, state: str = "finished") -> None:
        """All runs have ended."""
        with self.db.write() as connection:
            connection.execute(update(schema.federated_runs).values(state=state))

    def samples(self, device_id: str, seen: int) -> None:
        """What a device has seen."""
        table = schema.device_samples
        with self.db.write() as connection:
            connection.execute(table.delete().where(table.c.device_id == device_id))
            connection.execute(
                insert(table).values(
                    device_id=device_id, model="digits", kept=seen, seen=seen, classes=2, personal=0, updated_s=1.0
                )
            )

    def firings(self) -> list[FiringRow]:
        """Oldest first."""
        return sorted(self.triggers.firings(PAGE), key=lambda row: row.firing_id)

    def run_ids(self) -> list[str]:
        with self.db.read() as connection:
            runs = schema.federated_runs.c
            return list(connection.scalars(select(runs.run_id).order_by(runs.run_no)))
