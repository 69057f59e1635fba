"""A hub killed at any statement of a round goes on exactly: nothing assigned twice, nothing forgotten, nothing half."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from hub.store import schema
from tests.databases import Backend
from tests.rollouts_store.kit import STEPS, RolloutKit

_PLAN: dict[str, Any] = {
    "model": "digits",
    "version": 2,
    "targets": {"filter": "all"},
    "groups": [{"name": "canary", "devices": [f"dev-{n:05d}" for n in range(4)]}, {"name": "rest", "percent": 100}],
    "each_group": {
        "success_percent": 60, "error_percent": 40, "min_sample": 1, "observe_s": 3600, "bake_s": 1,
    },
    "gates": [{"metric": "install_success", "operator": ">=", "threshold": 0.5, "min_sample": 1}],
}  # fmt: skip
_LEAST_CUTS = 10
_DIED = 9


def dying(engine: Engine, at: int) -> Callable[..., None]:
    """End this process, without a word to the database, when the engine is about to run its `at`-th statement."""
    left = [at]

    @event.listens_for(engine, "before_cursor_execute")
    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            os._exit(_DIED)

    @event.listens_for(engine, "commit")
    def commit(*_: Any) -> None:
        count()

    return count


def killed_round(folder: Path, url: str, at: int, now_s: float) -> bool:
    """A round of the engine in a child process that dies at its `at`-th statement; True: it lived to the end.

    What is killed within a transaction has not happened, so the next one, killed one statement later, gets further.
    """
    pid = os.fork()
    if pid == 0:
        try:
            kit = RolloutKit(folder, url, batch=5)
            kit.clock.now_s = now_s
            dying(kit.db.engine, at)
            kit.engine.run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must never go on as a second test run
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, _DIED)
    return os.waitstatus_to_exitcode(status) == 0


@contextmanager
def fresh(backend: Backend, folder: Path, failing: bool) -> Iterator[tuple[RolloutKit, str, str]]:
    """Twelve devices; the canary has just reported: `failing`: that it went back by itself."""
    folder.mkdir()
    with backend.fresh(folder) as url:
        kit = RolloutKit(folder, url, batch=5)
        try:
            kit.fleet(12)
            kit.release("digits", 1, 2)
            kit.serve(1)
            rollout = kit.start(_PLAN)
            kit.engine.run()
            kit.deliver(lambda *_: ("downloading", "probation", "rolled_back") if failing else STEPS)
            kit.clock.now_s += 5
            kit.db.engine.dispose()
            yield kit, url, rollout
        finally:
            kit.close()


def snapshot(kit: RolloutKit, rollout: str) -> Mapping[str, Any]:
    """All that must not depend on when the hub died. Versions, not counters, that devices should have."""
    with kit.db.read() as connection:
        rows = connection.execute(select(schema.assignments.c.device_id, schema.assignments.c.version))
        wanted = {row.device_id: row.version for row in rows}
        given = connection.execute(select(func.sum(schema.devices.c.assignment_counter))).scalar_one()
        events = schema.rollout_events
        kinds = connection.execute(select(events.c.kind).order_by(events.c.event_no)).scalars().all()
    return {
        "states": sorted(kit.tally(rollout).items()),
        "wanted": sorted(wanted.values()),
        "given": given,
        "status": kit.status(rollout),
        "kinds": [kind for kind in kinds if kind != "clock_moved"],
    }


def finish(kit: RolloutKit, rollout: str, behave: Callable[[str, Mapping[str, Any]], Sequence[str]]) -> Any:
    kit.run(8, behave)
    return snapshot(kit, rollout)


@pytest.mark.parametrize("failing", [False, True], ids=["goes on", "rolls back"])
def test_a_round_that_is_killed_anywhere_is_taken_up_exactly(backend: Backend, tmp_path: Path, failing: bool) -> None:
    def behave(_device: str, row: Mapping[str, Any]) -> Sequence[str]:
        return ("downloading", "probation", "rolled_back") if failing and row["version"] == 2 else STEPS

    with fresh(backend, tmp_path / "whole", failing) as (kit, _, rollout):
        kit.engine.run()
        expected = finish(kit, rollout, behave)
    with fresh(backend, tmp_path / "cut", failing) as (kit, url, rollout):
        cuts = 0
        while not killed_round(tmp_path / "cut", url, cuts, kit.clock.now_s):
            cuts += 1
        assert cuts > _LEAST_CUTS
        assert finish(kit, rollout, behave) == expected


def test_a_round_without_news_changes_nothing_but_the_clock(backend: Backend, tmp_path: Path) -> None:
    with fresh(backend, tmp_path / "one", False) as (kit, _, rollout):
        kit.run(8)
        before = snapshot(kit, rollout)
        kit.engine.run()
        kit.engine.run()
        assert snapshot(kit, rollout) == before
