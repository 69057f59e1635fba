"""Singleton work: one hub of several does it, another takes over, and no task can stop the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from hub.scheduler import PeriodicTask, Scheduler
from hub.store import leases
from hub.store.database import Database
from tests.hub_kit import MovableClock

DEADLINE_S = 20.0


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = Database(database_url)
    yield db
    db.close()


@asynccontextmanager
async def running(scheduler: Scheduler) -> AsyncIterator[None]:
    task = asyncio.create_task(scheduler.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.005)


async def test_a_task_runs_again_and_again(db: Database) -> None:
    runs: list[int] = []
    task = PeriodicTask("count", 0.001, lambda: runs.append(1))
    async with running(Scheduler(db, MovableClock(), [task])):
        await until(lambda: len(runs) >= 3)


async def test_a_failing_task_is_logged_and_stops_neither_itself_nor_others(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    good: list[int] = []
    bad: list[int] = []

    def fail() -> None:
        bad.append(1)
        raise RuntimeError("no luck")

    tasks = [PeriodicTask("bad", 0.001, fail), PeriodicTask("good", 0.001, lambda: good.append(1))]
    async with running(Scheduler(db, MovableClock(), tasks)):
        await until(lambda: len(bad) >= 2 and len(good) >= 2)
    assert "the task bad failed" in caplog.text


async def test_two_hubs_share_one_lease_and_the_other_takes_over_when_it_is_given_back(db: Database) -> None:
    clock, runs = MovableClock(), {"a": 0, "b": 0}
    lock = threading.Lock()

    def scheduler(name: str) -> Scheduler:
        def count() -> None:
            with lock:
                runs[name] += 1

        return Scheduler(db, clock, [PeriodicTask("count", 0.001, count)], holder=name, lease_s=0.3)

    first, second = scheduler("a"), scheduler("b")
    async with running(first):
        await until(lambda: first.leading)
        async with running(second):
            await until(lambda: runs["a"] >= 3)
            assert not second.leading
            assert runs["b"] == 0
    async with running(second):
        await until(lambda: runs["b"] >= 1)
    assert not first.leading


def test_a_lease_is_anothers_until_it_runs_out(db: Database) -> None:
    with db.write() as connection:
        assert leases.take(connection, "x", "a", 100.0, 130.0)
    with db.write() as connection:
        assert not leases.take(connection, "x", "b", 129.0, 160.0)
        assert leases.take(connection, "x", "a", 129.0, 159.0)
    with db.write() as connection:
        assert leases.take(connection, "x", "b", 159.0, 189.0)
        assert not leases.take(connection, "x", "a", 160.0, 190.0)
    with db.write() as connection:
        leases.release(connection, "x", "a")  # not a's any more
        assert not leases.take(connection, "x", "a", 161.0, 190.0)
        leases.release(connection, "x", "b")
        assert leases.take(connection, "x", "a", 162.0, 190.0)
