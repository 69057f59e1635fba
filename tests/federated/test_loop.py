"""The part of the hub that does runs: which it begins, on which ports, and what it leaves when it may not or ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.federated.loop import RunLoop
from hub.federated.stage import Stage
from hub.store.federated import RunState
from tests.databases import SqliteBackend
from tests.federated.run_kit import RunKit, until


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> SqliteBackend:
    return SqliteBackend(tmp_path_factory.mktemp("template"))


@pytest.fixture
def kit(tmp_path: Path, sqlite: SqliteBackend) -> Iterator[RunKit]:
    with sqlite.fresh(tmp_path) as url:
        kit = RunKit(tmp_path, url)
        yield kit
        kit.close()


def create(kit: RunKit, count: int) -> list[str]:
    return [kit.runs.create(kit.definition(), by="dana").run_id for _ in range(count)]


def states(kit: RunKit, runs: list[str]) -> list[RunState]:
    return [kit.run(run_id).state for run_id in runs]


def drive(loop: RunLoop, condition: object, leading: bool = True) -> None:
    """Let the loop look until it is so."""
    assert callable(condition)

    def look() -> bool:
        loop.step(leading)
        return bool(condition())

    until(look)


def end(stage: Stage, loop: RunLoop) -> None:
    """As the hub ends."""

    async def once() -> None:
        task = asyncio.create_task(loop.run(lambda: True))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(once())


def test_runs_go_one_after_the_other_in_the_order_in_which_they_were_asked_for(kit: RunKit) -> None:
    runs = create(kit, 2)
    loop = RunLoop(kit.stage("round"), at_once=1)
    assert loop.step(True)
    assert len(kit.heard("Begin")) <= 1
    drive(loop, lambda: states(kit, runs) == [RunState.FINISHED] * 2)
    assert [kit.run(run_id).started_s is not None for run_id in runs] == [True, True]
    assert [begin["port"] for begin in kit.heard("Begin")] == [8450, 8450]
    loop.step(True)
    assert not loop.step(True)


def test_runs_that_go_on_at_the_same_time_have_ports_of_their_own(kit: RunKit) -> None:
    runs = create(kit, 3)
    stage = kit.stage("wait:Cancel")
    loop = RunLoop(stage, at_once=2)
    drive(loop, lambda: len(kit.heard("Begin")) == 2)
    assert sorted(begin["port"] for begin in kit.heard("Begin")) == [8450, 8451]
    loop.step(True)
    assert states(kit, runs) == [RunState.RUNNING, RunState.RUNNING, RunState.QUEUED]
    kit.runs.cancel(runs[0], by="olga")
    drive(loop, lambda: len(kit.heard("Begin")) == 3)
    assert states(kit, runs)[0] is RunState.CANCELLED
    end(stage, loop)


def test_a_hub_without_the_lease_begins_nothing_and_one_that_loses_it_leaves_its_runs(kit: RunKit) -> None:
    runs = create(kit, 1)
    loop = RunLoop(kit.stage("round", "wait:Never"), at_once=1)
    assert not loop.step(False)
    assert states(kit, runs) == [RunState.QUEUED]
    drive(loop, lambda: kit.run(runs[0]).round_no == 1)
    drive(loop, lambda: not loop.step(False), leading=False)
    assert states(kit, runs) == [RunState.RUNNING]
    other = RunLoop(kit.stage("round", holder="two"), at_once=1)
    drive(other, lambda: states(kit, runs) == [RunState.FINISHED])
    assert kit.run(runs[0]).round_no == 2


def test_a_hub_that_ends_ends_its_workers_and_leaves_its_runs_as_they_stand(kit: RunKit) -> None:
    runs = create(kit, 1)
    stage = kit.stage("round", "wait:Never")
    loop = RunLoop(stage, at_once=1)
    drive(loop, lambda: kit.run(runs[0]).round_no == 1)
    end(stage, loop)
    assert states(kit, runs) == [RunState.RUNNING]
    loop.step(True)
    assert len(kit.heard("Begin")) == 1  # nothing begins any more


def test_a_device_that_is_cut_off_is_out_of_every_run(kit: RunKit) -> None:
    create(kit, 2)
    stage = kit.stage("wait:Remove")
    loop = RunLoop(stage, at_once=2)
    drive(loop, lambda: len(kit.heard("Begin")) == 2)
    loop.cut_off("d-1")
    until(lambda: len(kit.heard("Remove")) == 2)
    end(stage, loop)


def test_an_idle_hub_has_nothing_of_flower_in_it() -> None:
    """All that `skerry-hub serve` imports; the engine is in the workers' processes."""
    script = (
        "import sys; import hub.main, hub.serving, hub.api.app, hub.wiring; "
        "print(sorted({'flwr', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")
