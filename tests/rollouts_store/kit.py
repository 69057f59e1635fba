"""A hub's rollout services over a real database, and devices that are nothing but the messages that they would send.

    kit.fleet(100); kit.release("digits", 1, 2); kit.serve(1)
    rollout_id = kit.start({"model": "digits", "version": 2, …})
    kit.run(10, behave=…)       # ticks; each device does what `behave` says with what it should have

Messages go through the ingest, exactly as MQTT's would; the clock only moves when the test moves it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from hub.deployments.compatibility import Compatibility
from hub.ingest.service import IngestService, Received
from hub.rollouts.engine import RolloutEngine
from hub.rollouts.evidence import EvidenceCollector, MetricSource, standard_sources
from hub.rollouts.membership import Memberships
from hub.rollouts.service import RolloutService
from hub.rollouts.state import Progress, Status
from hub.store import rollouts as store
from hub.store import schema
from hub.store.rollouts import RolloutRow
from shared.wire.health import Health, VersionHealth
from shared.wire.up import Envelope, InstallReport, encode_body, encode_envelope
from tests.fleet_kit import FleetKit

__all__ = ["Behave", "RolloutKit", "STEPS"]

STEPS = ("downloading", "verifying", "probing", "activating", "probation", "committed")
"""What a device reports on its way to success."""
Behave = Callable[[str, Mapping[str, Any]], Sequence[str]]
"""The states that a device reports when it gets an assignment (device id, its row); empty: it stays silent."""
_STEP_S = 5.0
_BATCH_COUNT = 500


def _succeed(_device_id: str, _assignment: Mapping[str, Any]) -> Sequence[str]:
    return STEPS


class RolloutKit(FleetKit):
    """`FleetKit` with rollouts and simulated devices."""

    def __init__(
        self, folder: Path, database_url: str, sources: Mapping[str, MetricSource] | None = None, batch: int = 1000
    ) -> None:
        super().__init__(folder, database_url)
        self.ingest = IngestService(self.db, self.clock)
        measured = dict(standard_sources() if sources is None else sources)
        self.memberships = Memberships(self.filters, Compatibility())
        self.engine = RolloutEngine(
            self.db,
            self.clock,
            self.audit,
            self.assignments,
            self.memberships,
            EvidenceCollector(measured),
            self._wake,
            pause=lambda _seconds: None,
            batch=batch,
        )
        self.rollouts = RolloutService(
            self.db,
            self.clock,
            self.audit,
            self.approvals,
            self.assignments,
            Compatibility(),
            self.memberships,
            self.engine,
            frozenset(measured),
        )
        self._seq: dict[str, int] = defaultdict(int)
        self._done: dict[str, int] = {}
        self._outbox: list[Received] = []

    def close(self) -> None:
        """Whatever happened: what the database says of a rollout's devices must be what they are."""
        rows, tally = schema.rollout_devices.c, schema.rollout_tallies.c
        key = (rows.rollout_no, rows.group_no, rows.state)
        with self.db.read() as connection:
            are = connection.execute(select(*key, func.count()).group_by(*key)).all()
            said = connection.execute(select(tally.rollout_no, tally.group_no, tally.state, tally.n)).all()
        super().close()
        assert {tuple(row) for row in said if row.n} == {tuple(row) for row in are}
        assert all(row.n >= 0 for row in said)

    # --- fleet --------------------------------------------------------------------------------------------------------
    def fleet(self, count: int, profile: str = "raspberry-pi-4", prefix: str = "dev", **tags: str) -> list[str]:
        """Enrol devices at once, with the same tags."""
        ids = [f"{prefix}-{number:05d}" for number in range(count)]
        with self.db.write() as connection:
            common = {"status": "active", "profile": profile, "hardware_id": "", "enrolled_s": 0.0}
            connection.execute(insert(schema.devices), [{"device_id": one, **common} for one in ids])
            rows = [{"device_id": one, "key": key, "value": value} for one in ids for key, value in tags.items()]
            if rows:
                connection.execute(insert(schema.device_tags), rows)
            connection.execute(insert(schema.rollout_arrivals), [{"device_id": one} for one in ids])
        return ids

    def serve(self, version: int, ids: Iterable[str] | None = None, model: str = "digits") -> None:
        """These devices (all) serve a version that they were assigned long ago."""
        chosen = list(ids) if ids is not None else self.device_ids()
        with self.db.write() as connection:
            self.assignments.assign_ids(connection, chosen, model, version, "d-before")
        rows, served = self.desires(model), self.served(model)
        for device_id in chosen:
            self.obey(rows[device_id], served.get(device_id), ("committed",))
            self._done[f"{device_id}/{model}"] = rows[device_id]["counter"]
        self.flush()

    def device_ids(self) -> list[str]:
        with self.db.read() as connection:
            return list(connection.scalars(select(schema.devices.c.device_id).order_by(schema.devices.c.device_id)))

    # --- what devices say ---------------------------------------------------------------------------------------------
    def send(self, device_id: str, kind: str, body: Any) -> None:
        """One message for the ingest, which gets it with the others at `flush`."""
        self._seq[device_id] += 1
        seq = self._seq[device_id]
        envelope = Envelope(
            device_id=device_id,
            epoch="e" * 16,
            first_seq=seq,
            seq=seq,
            created_s=self.clock.now(),
            kind=kind,  # type: ignore[arg-type]
            body=encode_body(body),
        )
        self._outbox.append(Received(device_id, encode_envelope(envelope)))

    def flush(self) -> None:
        """All that was sent reaches the ingest, in batches as MQTT's."""
        while self._outbox:
            self.ingest.commit(self._outbox[:_BATCH_COUNT])
            del self._outbox[:_BATCH_COUNT]

    def desires(self, model: str = "digits") -> dict[str, dict[str, Any]]:
        """The assignment of each device."""
        table = schema.assignments
        with self.db.read() as connection:
            rows = connection.execute(select(table).where(table.c.model == model).order_by(table.c.device_id))
            return {row.device_id: dict(row._mapping) for row in rows}

    def served(self, model: str = "digits") -> dict[str, int | None]:
        """What each device serves."""
        table = schema.device_models
        with self.db.read() as connection:
            rows = connection.execute(select(table.c.device_id, table.c.version).where(table.c.model == model))
            return {row.device_id: row.version for row in rows}

    def obey(self, row: Mapping[str, Any], serving: int | None, states: Sequence[str]) -> None:
        """The device of an assignment reports these states about it; `serving`: what it served before."""
        device_id, model = row["device_id"], row["model"]
        for state in states:
            if state in ("probation", "committed") and row["mode"] == "live":
                active: int | None = row["version"]
            else:
                active = serving
            self.send(
                device_id,
                "install",
                InstallReport(
                    model=model,
                    version=row["version"],
                    bundle_sha256=row["bundle_sha256"],
                    assignment_counter=row["counter"],
                    previous="assigned",
                    state=state,
                    event="succeeded",
                    reason_code="probe.golden" if state in ("rolled_back", "inconsistent") else "",
                    reason="The answers differ." if state in ("rolled_back", "inconsistent") else "",
                    active_version=active,
                ),
            )

    def say_health(self, device_id: str, version: int, model: str = "digits", **counters: Any) -> None:
        """The device counts requests, errors, crashes, over_budget of a version."""
        self.send(device_id, "health", Health(versions=[VersionHealth(model=model, version=version, **counters)]))

    # --- rollouts -----------------------------------------------------------------------------------------------------
    def start(self, definition: Mapping[str, Any], actor: str = "olga") -> str:
        return self.rollouts.create(json.dumps(definition).encode(), actor).rollout_id

    def status_count(self) -> int:
        """How many rollouts there are."""
        with self.db.read() as connection:
            return len(connection.execute(select(schema.rollouts.c.rollout_id)).all())

    def row(self, rollout_id: str) -> RolloutRow:
        with self.db.read() as connection:
            return store.get_rollout(connection, rollout_id)

    def progress(self, rollout_id: str) -> Progress:
        return self.row(rollout_id).rollout.progress

    def status(self, rollout_id: str) -> Status:
        return self.progress(rollout_id).status

    def states(self, rollout_id: str) -> dict[str, str]:
        """Device to state."""
        table, number = schema.rollout_devices, self.row(rollout_id).rollout_no
        with self.db.read() as connection:
            rows = connection.execute(select(table.c.device_id, table.c.state).where(table.c.rollout_no == number))
            return {row.device_id: row.state for row in rows}

    def groups(self, rollout_id: str) -> dict[str, int]:
        """Device to group."""
        table, number = schema.rollout_devices, self.row(rollout_id).rollout_no
        with self.db.read() as connection:
            rows = connection.execute(select(table.c.device_id, table.c.group_no).where(table.c.rollout_no == number))
            return {row.device_id: row.group_no for row in rows}

    def tally(self, rollout_id: str) -> dict[str, int]:
        """Devices by state."""
        found: dict[str, int] = defaultdict(int)
        for state in self.states(rollout_id).values():
            found[state] += 1
        return dict(found)

    def deliver(self, behave: Behave = _succeed, model: str = "digits") -> int:
        """Each device that is told something new does what `behave` says; returns how many were told."""
        served, told = self.served(model), 0
        for device_id, row in self.desires(model).items():
            if self._done.get(f"{device_id}/{model}", 0) >= row["counter"]:
                continue
            told += 1
            states = behave(device_id, row)
            if states:
                self.obey(row, served.get(device_id), states)
                self._done[f"{device_id}/{model}"] = row["counter"]
        self.flush()
        return told

    def run(self, rounds: int, behave: Behave = _succeed, step_s: float = _STEP_S) -> None:
        """Tick, let the devices act, move the clock; so many times."""
        for _ in range(rounds):
            self.engine.run()
            self.deliver(behave)
            self.clock.now_s += step_s
        self.engine.run()
