"""`scripts/soak faults`: every cut, thousands of pairs and of runs under failing calls; and one of them again.

faults [all]                                    everything; a night's job
faults SCENARIO [--mode M] [--k K] [--j J]      one scenario, one mode, one cut, one pair
faults fiu [--seed S | --k K --errno E]         installations under failing calls
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.faults.crashes import Tally, crashes, explore, explore_pairs, trace_act
from tests.faults.disk import Cut
from tests.faults.io_faults import ERRORS, FaultRun, FaultTally, missing_for_io_faults, run_one, serving
from tests.faults.scenarios import SCENARIOS
from tests.faults.trace import missing_for_traces
from tests.faults.world import again, open_world

__all__ = ["main"]

_EACH = 12


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak faults", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scenario", nargs="?", default="all", choices=["all", "fiu", *SCENARIOS])
    parser.add_argument("--mode", choices=list(Cut))
    parser.add_argument("--k", type=int, default=0)
    parser.add_argument("--j", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--errno", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=3000, help="cuts of recoveries, over all scenarios")
    parser.add_argument("--runs", type=int, default=10_000, help="installations under failing calls")
    return parser.parse_args(arguments)


def _cuts(name: str, wanted: argparse.Namespace, folder: Path) -> list[str]:
    """All cuts of one scenario, or the one that was asked for."""
    modes = [Cut(wanted.mode)] if wanted.mode else list(Cut)
    with open_world(name, folder / name) as world:
        ops = trace_act(world, folder / name)
        found = [crash for crash in crashes(world.prepared, ops, modes, wanted.seed) if wanted.k in (0, crash.k)]
        single, double, started = Tally(), Tally(), time.monotonic()
        if wanted.j is None:
            explore(world, iter(found), folder / name, single, wanted.seed)
            print(f"{name}: {len(ops)} operations, {single}, {time.monotonic() - started:.0f} s", flush=True)
        if (wanted.pairs and not wanted.k) or wanted.j is not None:
            count = max(1, wanted.pairs // len(SCENARIOS) // _EACH)
            chosen = found if wanted.k else Random(wanted.seed).sample(found, min(count, len(found)))
            each = _EACH if wanted.j is None else sys.maxsize
            explore_pairs(world, chosen, folder / name, double, wanted.seed, cuts=list(Cut), each=each, only=wanted.j)
            print(f"{name}, pairs: {double}", flush=True)
    return [str(failure) for failure in (*single.failures, *double.failures)]


def _io_faults(wanted: argparse.Namespace, folder: Path) -> list[str]:
    """Installations under failing calls: by seed, and one for every call that an installation makes."""
    tally = FaultTally()
    with open_world("install", folder / "fiu") as world, serving() as server:
        facts = again(world)
        if wanted.k:
            run_one(world, facts, server, FaultRun(0, wanted.k, wanted.errno), folder / "fiu", tally)
        elif wanted.scenario == "fiu" and wanted.seed != 1:
            run_one(world, facts, server, FaultRun(wanted.seed), folder / "fiu", tally)
        else:
            calls = run_one(world, facts, server, FaultRun(0, sys.maxsize, ERRORS[0]), folder / "fiu", tally).calls
            every = [FaultRun(0, k, ERRORS[k % len(ERRORS)]) for k in range(1, calls + 1)]
            runs = [*every, *map(FaultRun, range(max(0, wanted.runs - calls)))]
            for number, run in enumerate(runs[: wanted.runs]):
                run_one(world, facts, server, run, folder / "fiu", tally)
                if number % 500 == 499:
                    print(f"fiu: {tally}", flush=True)
    print(f"fiu: {tally}", flush=True)
    return tally.failures


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; 1 when anything failed."""
    wanted = _arguments(arguments)
    missing = missing_for_traces() if wanted.scenario != "fiu" else missing_for_io_faults()
    if missing:
        print(f"scripts/soak: {missing}", file=sys.stderr)
        return 2
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
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
