"""Failing calls of the C library: after any of them a right version serves, and the next clean run succeeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.faults.io_faults import ERRORS, Bench, FaultRun, FaultTally, open_bench

SEED = 1
RUNS = 60
ENOUGH = 0.75
RANDOM_PARTS, SINGLE_PARTS = range(2), range(3)
Record = Callable[[str, object], None]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(fiu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("io-faults") / "world") as found:
        yield found


def judge(name: str, tally: FaultTally, record_property: Record) -> None:
    record_property("figures", f"{name}: {tally}")
    assert not tally.failures, "\n".join(tally.failures[:10])
    assert tally.struck >= ENOUGH * tally.runs, "too few of these lives met a fault"


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
    tally, calls = FaultTally(), bench.count_calls()
    assert calls > RUNS
    for k in sorted(Random(f"{SEED} {part}").sample(range(1, calls + 1), RUNS)):
        bench.run(FaultRun(0, k, ERRORS[k % len(ERRORS)]), tally)
    judge(f"installs with one failure, {part}", tally, record_property)
