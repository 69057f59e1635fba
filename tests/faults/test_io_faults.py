"""Failing calls of the C library: after any of them a right version serves, and the next clean run succeeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.faults.io_faults import ERRORS, FaultRun, FaultTally, FiuServer, run_one, serving
from tests.faults.world import World, again, open_world

SEED = 1
RUNS = 60
RANDOM_PARTS, SINGLE_PARTS = range(2), range(3)
Record = Callable[[str, object], None]

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bench:
    """A world, its server and the facts of the next assignment."""

    world: World
    server: FiuServer
    facts: Path
    area: Path

    def run(self, run: FaultRun, tally: FaultTally) -> int:
        """One run; how many calls it made, if they were counted."""
        return run_one(self.world, self.facts, self.server, run, self.area, tally).calls


@pytest.fixture(scope="module")
def bench(fiu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    area = tmp_path_factory.mktemp("io-faults")
    with open_world("install", area / "world") as world, serving() as server:
        yield Bench(world, server, again(world), area)


def judge(name: str, tally: FaultTally, record_property: Record) -> None:
    record_property("figures", f"{name}: {tally}")
    assert not tally.failures, "\n".join(tally.failures[:10])


@pytest.mark.parametrize("part", RANDOM_PARTS)
def test_calls_that_fail_at_random_are_made_good_by_the_next_run(
    bench: Bench, part: int, record_property: Record
) -> None:
    tally = FaultTally()
    for seed in range(part * RUNS, (part + 1) * RUNS):
        bench.run(FaultRun(seed), tally)
    judge(f"installs with random failures, {part}", tally, record_property)


@pytest.mark.parametrize("part", SINGLE_PARTS)
def test_any_single_call_may_fail_with_no_space_an_error_or_an_interruption(
    bench: Bench, part: int, record_property: Record
) -> None:
    tally = FaultTally()
    calls = bench.run(FaultRun(0, sys.maxsize, ERRORS[0]), tally)
    assert calls > RUNS
    for k in sorted(Random(f"{SEED} {part}").sample(range(1, calls + 1), RUNS)):
        bench.run(FaultRun(0, k, ERRORS[k % len(ERRORS)]), tally)
    judge(f"installs with one failure, {part}", tally, record_property)
