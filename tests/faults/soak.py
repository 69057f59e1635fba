"""`scripts/soak faults`: every cut, thousands of pairs and of runs under failing calls; and one of them again.

faults [all]                                    everything; a night's job
faults SCENARIO [--mode M] [--k K] [--j J]      one scenario, one mode, one cut, one pair
faults fiu [--seed S | --k K --errno E]         installations under failing calls
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

from tests.faults.crashes import Tally, crashes, explore, explore_pairs, trace_act
from tests.faults.disk import Cut
from tests.faults.io_faults import ERRORS, FaultRun, FaultTally, missing_for_io_faults, open_bench
from tests.faults.scenarios import SCENARIOS
from tests.faults.trace import missing_for_traces
from tests.faults.world import open_world

__all__ = ["main"]

_EACH = 12
_SEED = 1
_MEMORY = Path("/dev/shm")
"""Where the state folders are, if it is there: they are many, and their syncs mean nothing."""
_EVERY_CALL = 1400
"""An installation makes some more calls than this (1,440); each of these fails once, in a life of its own."""
_ENOUGH = 0.75
_OFTEN = 200
_JOBS_A_CORE = 4
"""A life under faults waits more than it works."""


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak faults", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scenario", nargs="?", default="all", choices=["all", "fiu", *SCENARIOS])
    parser.add_argument("--mode", choices=list(Cut))
    parser.add_argument("--k", type=int, default=0)
    parser.add_argument("--j", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--errno", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=3000, help="cuts of recoveries, over all scenarios")
    parser.add_argument("--runs", type=int, default=10_000, help="installations under failing calls")
    parser.add_argument("--jobs", type=int, default=_JOBS_A_CORE * (os.cpu_count() or 1), help="processes, for those")
    return parser.parse_args(arguments)


def _cuts(name: str, wanted: argparse.Namespace, folder: Path) -> list[str]:
    """All cuts of one scenario, or the one that was asked for."""
    modes = [Cut(wanted.mode)] if wanted.mode else list(Cut)
    seed = _SEED if wanted.seed is None else wanted.seed
    with open_world(name, folder / name) as world:
        ops = trace_act(world, folder / name)
        found = [crash for crash in crashes(world.prepared, ops, modes, seed) if wanted.k in (0, crash.k)]
        single, double, started = Tally(), Tally(), time.monotonic()
        if wanted.j is None:
            explore(world, iter(found), folder / name, single, seed)
            print(f"{name}: {len(ops)} operations, {single}, {time.monotonic() - started:.0f} s", flush=True)
        if (wanted.pairs and not wanted.k) or wanted.j is not None:
            count = max(1, wanted.pairs // len(SCENARIOS) // _EACH)
            chosen = found if wanted.k else Random(seed).sample(found, min(count, len(found)))
            each = _EACH if wanted.j is None else sys.maxsize
            explore_pairs(world, chosen, folder / name, double, seed, cuts=list(Cut), each=each, only=wanted.j)
            print(f"{name}, pairs: {double}", flush=True)
    return [str(failure) for failure in (*single.failures, *double.failures)]


def _io_faults(wanted: argparse.Namespace, folder: Path) -> list[str]:
    """Installations under failing calls: the one that was asked for, or all that were, by several processes."""
    started, tally = time.monotonic(), FaultTally()
    if wanted.k or (wanted.scenario == "fiu" and wanted.seed is not None):
        with open_bench(folder / "fiu") as bench:
            bench.run(FaultRun(wanted.seed or 0, wanted.k, wanted.errno), tally)
    else:
        with ProcessPoolExecutor(wanted.jobs, get_context("spawn")) as pool:
            parts = [pool.submit(_stripe, folder, wanted.runs, number, wanted.jobs) for number in range(wanted.jobs)]
            tally = sum((part.result() for part in parts), tally)
        if tally.struck < _ENOUGH * tally.runs:
            tally.failures.append("fiu: too few lives met a failing call; the faults do not reach the agent")
    print(f"fiu: {tally}, {time.monotonic() - started:.0f} s", flush=True)
    return tally.failures


def _stripe(folder: Path, runs: int, number: int, jobs: int) -> FaultTally:
    """Every `jobs`-th run, beginning with the `number`-th: one for each call of an installation, then by seed."""
    tally = FaultTally()
    with open_bench(folder / f"fiu-{number}") as bench:
        every = min(runs, _EVERY_CALL)
        for run in range(number, runs, jobs):
            wish = FaultRun(0, run + 1, ERRORS[run % len(ERRORS)]) if run < every else FaultRun(run - every)
            failed = len(tally.failures)
            bench.run(wish, tally)
            print("".join(f"{failure}\n" for failure in tally.failures[failed:]), end="", flush=True)
            if tally.runs % _OFTEN == 0:
                print(f"fiu, part {number} of {jobs}: {tally}", flush=True)
    return tally


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; 1 when anything failed."""
    wanted = _arguments(arguments)
    missing = missing_for_traces() if wanted.scenario != "fiu" else missing_for_io_faults()
    if missing:
        print(f"scripts/soak: {missing}", file=sys.stderr)
        return 2
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None, prefix="faults-") as folder:
        for name in SCENARIOS if wanted.scenario == "all" else {wanted.scenario} - {"fiu"}:
            failures += _cuts(name, wanted, Path(folder))
        if wanted.scenario in ("all", "fiu"):
            failures += _io_faults(wanted, Path(folder))
    for failure in failures:
        print(failure)
    print(f"scripts/soak faults: {len(failures)} failures.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
