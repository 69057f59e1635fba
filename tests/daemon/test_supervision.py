"""A part that fails is told and started again; the others do not notice."""

from __future__ import annotations

import asyncio

from agent.ota.backoff import Backoff
from agent.supervision import Supervisor
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.wire.up import Event

QUICK = Backoff(base_s=0.001, cap_s=0.002)


def supervisor(events: list[Event]) -> Supervisor:
    return Supervisor(events.append, SystemClock(), lambda: 0.5, QUICK)


async def test_a_part_that_fails_is_reported_and_started_again() -> None:
    events: list[Event] = []
    steady = asyncio.Event()
    starts = 0

    async def part() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise ZeroDivisionError("boom")
        if starts == 2:
            raise Unavailable("x.y", "The thing is away.")
        if starts == 3:
            return
        steady.set()
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(supervisor(events).keep("part", part))
    async with asyncio.timeout(10):
        await steady.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [event.code for event in events] == ["agent.part_failed"] * 3
    assert "ZeroDivisionError: boom" in events[0].message
    assert "The thing is away." in events[1].message
    assert "ended by itself" in events[2].message
    assert [event.count for event in events] == [1, 2, 3]


async def test_a_failing_part_does_not_disturb_its_neighbour() -> None:
    events: list[Event] = []
    keeper = supervisor(events)

    async def failing() -> None:
        raise RuntimeError

    async def good() -> None:
        await asyncio.get_running_loop().create_future()

    neighbour = asyncio.create_task(keeper.keep("good", good))
    failing_task = asyncio.create_task(keeper.keep("bad", failing))
    async with asyncio.timeout(10):
        while len(events) < 5:  # noqa: ASYNC110 - the list has no event to wait for
            await asyncio.sleep(0.002)
    assert not neighbour.done()
    for task in (neighbour, failing_task):
        task.cancel()
    await asyncio.gather(neighbour, failing_task, return_exceptions=True)


async def test_cancelling_ends_the_part_at_once_and_is_no_failure() -> None:
    events: list[Event] = []

    async def part() -> None:
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(supervisor(events).keep("part", part))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert events == []


async def test_a_part_that_goes_on_failing_is_reported_with_the_count_and_not_each_time() -> None:
    events: list[Event] = []
    starts = 0
    often = asyncio.Event()

    async def part() -> None:
        nonlocal starts
        starts += 1
        if starts > 20:
            often.set()
        raise RuntimeError("again")

    task = asyncio.create_task(supervisor(events).keep("part", part))
    async with asyncio.timeout(10):
        await often.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [event.count for event in events] == [1, 2, 4, 8, 16]
