"""Devices report and enrol while the engine ticks, on several hubs: nothing is lost, and nobody waits in a circle."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from alembic import command
from sqlalchemy import select, text

from hub.rollouts.state import Status
from hub.store import devices, schema
from hub.store.database import Database
from hub.store.hashing import hash31
from hub.store.migrate import _config, migrate
from tests.databases import Backend
from tests.rollouts_store.kit import RolloutKit
from tests.rollouts_store.test_life import CANARY

ALL: dict[str, Any] = {**CANARY, "groups": [{"name": "all", "percent": 100}]}
DEADLINE_S = 120.0


def test_reports_that_arrive_during_ticks_are_all_counted(tmp_path: Path, database_url: str) -> None:
    kit, other = RolloutKit(tmp_path, database_url, batch=7), RolloutKit(tmp_path, database_url, batch=5)
    kit.fleet(60)
    kit.release("digits", 1, 2)
    kit.serve(1)
    rollout = kit.start(ALL)
    failures: list[BaseException] = []
    done = threading.Event()

    def tick(which: RolloutKit) -> None:
        try:
            while not done.is_set():
                which.engine.run()
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    hubs = [threading.Thread(target=tick, args=(which,)) for which in (kit, other)]
    for hub in hubs:
        hub.start()
    reporter = RolloutKit(tmp_path, database_url)
    reporter._seq = kit._seq
    reporter._done = dict(kit._done)
    until_s = time.monotonic() + DEADLINE_S
    while not failures and reporter.tally(rollout) != {"succeeded": 60} and time.monotonic() < until_s:
        reporter.deliver()
    done.set()
    for hub in hubs:
        hub.join(DEADLINE_S)
    assert failures == []
    assert reporter.tally(rollout) == {"succeeded": 60}
    given = [row["counter"] for row in reporter.desires().values()]
    assert set(given) == {2}, "each device was assigned once before, and once by the rollout"
    for one in (kit, other, reporter):
        one.close()


def test_a_device_that_enrols_falls_into_the_rollouts_that_go_on(kit: RolloutKit) -> None:
    kit.fleet(5)
    kit.release("digits", 1, 2)
    kit.serve(1)
    rollout = kit.start(ALL)
    kit.run(20, step_s=60)
    assert kit.status(rollout) is Status.KEEPING
    with kit.db.write() as connection:
        devices.insert_device(
            connection, device_id="late", profile="raspberry-pi-4", hardware_id="", now_s=kit.clock.now()
        )
    kit.run(2)
    assert kit.states(rollout)["late"] == "succeeded"


def test_the_migration_gives_devices_that_were_there_their_hash(backend: Backend, tmp_path: Path) -> None:
    with backend.empty(tmp_path) as url:
        db = Database(url)
        with db.write() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "0004")
            row = "(device_id, status, profile, hardware_id, enrolled_s, assignment_counter, desired_revision, "
            row += "published_revision) VALUES (:d, 'active', 'x', '', 1.0, 0, 0, 0)"
            connection.execute(text(f"INSERT INTO devices {row}"), [{"d": f"dev-{number}"} for number in range(30)])
        migrate(db)
        with db.read() as connection:
            rows = connection.execute(select(schema.devices.c.device_id, schema.devices.c.hash31)).all()
        db.close()
    assert len(rows) == 30
    assert all(row.hash31 == hash31(row.device_id) for row in rows)
