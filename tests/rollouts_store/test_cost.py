"""What rollouts cost others: statements for a check-in, and plans that do not grow with the fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, select

from hub.store import schema
from shared.wire.up import Heartbeat, InstallReport, ModelStatus
from tests.hub_kit import running_hub
from tests.rollouts_store.kit import RolloutKit
from tests.rollouts_store.test_life import CANARY

_NO_QUERY = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "SET ", "SHOW ")


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """The statements that the engine sends to the database within the block; one for many rows is one."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(_NO_QUERY):
            found.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_poll_of_the_desired_state_costs_two_queries_while_a_rollout_runs(tmp_path: Path) -> None:
    with running_hub(tmp_path) as kit:
        device = kit.enrol("pi-1")
        first = device.client.get("/v1/device/desired")
        with counted(kit.hub.db.engine) as statements:
            again = device.client.get("/v1/device/desired", headers={"If-None-Match": first.headers["ETag"]})
        assert again.status_code == 304
        assert len(statements) <= 2, statements


def _heartbeats(kit: RolloutKit, ids: list[str]) -> None:
    with kit.db.read() as connection:
        table = schema.device_models
        rows = {row.device_id: row for row in connection.execute(select(table))}
    for device_id in ids:
        row = rows[device_id]
        model = ModelStatus(
            model="digits", version=row.version, bundle_sha256=row.bundle_sha256, state=row.state, requests=3
        )
        kit.send(device_id, "heartbeat", Heartbeat(agent_version="1", uptime_s=1, models=[model]))


def test_heartbeats_cost_a_few_statements_a_batch_however_many_and_none_for_the_rollout(kit: RolloutKit) -> None:
    ids = kit.fleet(200)
    kit.release("digits", 1, 2)
    kit.serve(1)
    kit.start(CANARY)
    kit.run(1)
    counts = []
    for size in (10, 100):
        _heartbeats(kit, ids[:size])
        with counted(kit.db.engine) as statements:
            kit.flush()
        assert not [text for text in statements if "rollout" in text], statements
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 6, statements


def test_installs_that_move_cost_one_statement_more_a_batch(kit: RolloutKit) -> None:
    ids = kit.fleet(100)
    kit.release("digits", 1, 2)
    kit.serve(1)
    kit.start({**CANARY, "groups": [{"name": "all", "percent": 100}]})
    kit.engine.run()
    rows = kit.desires()
    for device_id in ids:
        row = rows[device_id]
        kit.send(
            device_id,
            "install",
            InstallReport(
                model="digits",
                version=2,
                bundle_sha256=row["bundle_sha256"],
                assignment_counter=row["counter"],
                previous="assigned",
                state="downloading",
                event="succeeded",
                active_version=1,
            ),
        )
    with counted(kit.db.engine) as statements:
        kit.flush()
    assert len([text for text in statements if "rollout" in text]) == 1, statements
    assert len(statements) <= 7, statements


def test_a_round_costs_the_same_statements_whatever_the_fleet(tmp_path: Path, database_url: str) -> None:
    kit = RolloutKit(tmp_path, database_url)
    kit.release("digits", 1, 2)
    found = []
    for size, prefix in ((20, "a"), (200, "b")):
        ids = kit.fleet(size, prefix=prefix)
        kit.serve(1, ids)
        rollout = kit.start({**CANARY, "targets": {"filter": f"id=={prefix}-*"}})
        kit.engine.run()
        kit.deliver()
        with counted(kit.db.engine) as statements:
            kit.engine.run()
        found.append(len(statements))
        kit.rollouts.abort(rollout, "olga")
        kit.run(2)
    kit.close()
    assert found[1] <= found[0] + 2, found


def test_queries_of_a_tick_use_their_indexes(kit: RolloutKit) -> None:
    """SQLite only takes a partial index for a condition that it can read; a parameter in it is none."""
    if not kit.db.is_sqlite:
        return
    kit.fleet(30)
    kit.release("digits", 1, 2)
    kit.serve(1)
    kit.start(CANARY)
    seen: list[tuple[str, Any]] = []
    event.listen(kit.db.engine, "before_cursor_execute", lambda _c, _k, text, values, *_: seen.append((text, values)))
    kit.run(2)
    plans: dict[str, str] = {}
    with kit.db.read() as connection:
        for text, values in list(seen):
            if "rollout_devices" in text and "INSERT" not in text:
                one = values[0] if isinstance(values, list) else values
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", one).all()
                plans[text] = "; ".join(row[3] for row in rows)
    assert plans
    scans = {text: plan for text, plan in plans.items() if "SCAN rollout_devices" in plan and "INDEX" not in plan}
    assert not scans
    for name in ("waiting", "current", "dirty", "count"):
        assert any(f"ix_rollout_devices_{name}" in plan for plan in plans.values()), (name, plans)
