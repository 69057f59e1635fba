"""Failing calls of the C library, by Debian's fiu-utils: what they do to an installation, and that it is made good.

The promise is aktualizr's and more: after any run under faults the device still serves a right version, and the next
run without faults succeeds. A fault run is a fork of a warm server (`tests.faults.fiu_server`), so that ten thousand
fit in an hour.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from tests.faults.facts import Facts, load_facts
from tests.faults.fiu_server import Order, Outcome
from tests.faults.life import Broken, check_image
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import World, again, open_world

__all__ = ["ERRORS", "Bench", "FaultRun", "FaultTally", "missing_for_io_faults", "open_bench"]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EINTR)
_PROBABILITIES = (0.0005, 0.002, 0.008)
_PATIENCE_S = 60.0


def missing_for_io_faults() -> str | None:
    """What keeps this machine from it, in words; None when nothing does."""
    return None if shutil.which("fiu-run") else "fiu-utils is not installed"


@dataclass(frozen=True, slots=True)
class FaultRun:
    """One run: the k-th call fails with `errno`, or with k 0 calls fail at random by the seed."""

    seed: int
    k: int = 0
    errno: int = 0

    def command(self) -> str:
        """What reproduces it."""
        where = f"--k {self.k} --errno {self.errno}" if self.k else f"--seed {self.seed}"
        return f"scripts/soak faults fiu {where}"


@dataclass
class FaultTally:
    """What was tried: runs, those in which some call failed, all calls that failed, and how the lives ended."""

    runs: int = 0
    struck: int = 0
    faults: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: FaultTally) -> FaultTally:
        return FaultTally(
            self.runs + other.runs,
            self.struck + other.struck,
            self.faults + other.faults,
            self.ends + other.ends,
            [*self.failures, *other.failures],
        )

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return (
            f"{self.runs} runs under faults ({ends}), {self.struck} of them with a failing call, "
            f"{self.faults} failing calls, {len(self.failures)} failures"
        )


class _FiuServer:
    """The warm process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, order: Order) -> Outcome:
        """Live one life."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the server has no pipes")
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Outcome)


@contextmanager
def _serving() -> Iterator[_FiuServer]:
    """A server for the block."""
    command = ["fiu-run", "-f", "", "-x", sys.executable, "-m", "tests.faults.fiu_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield _FiuServer(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(_PATIENCE_S)


def _order_of(world: World, run: FaultRun, root: Path) -> Order:
    """The life of a run."""
    plain = Order(facts=str(world.facts_file), scenario=world.scenario, root=str(root))
    if run.k:
        return msgspec.structs.replace(plain, k=run.k, errno=run.errno)
    random = Random(run.seed)
    chosen, chance = random.choice((0, *ERRORS)), random.choice(_PROBABILITIES)
    return msgspec.structs.replace(plain, seed=run.seed, errno=chosen, probability=chance)


class Bench:
    """A world, its warm server, and `again`: the facts of the hub's next assignment, for the clean run."""

    def __init__(self, world: World, server: _FiuServer, again: Path, directory: Path) -> None:
        self._world = world
        self._server = server
        self._again = again
        self._root = directory / "faulty"
        self._fresh()
        self._server.run(Order(facts=str(world.facts_file), scenario=world.scenario, root=str(self._root)))

    def count_calls(self) -> int:
        """How many calls an installation makes in which none fails."""
        self._fresh()
        return self._server.run(_order_of(self._world, FaultRun(0, sys.maxsize, ERRORS[0]), self._root)).calls

    def run(self, run: FaultRun, tally: FaultTally) -> None:
        """One run and the clean one after it."""
        self._fresh()
        outcome = self._server.run(_order_of(self._world, run, self._root))
        tally.runs += 1
        tally.struck += outcome.faults > 0
        tally.faults += outcome.faults
        tally.ends[outcome.end] += 1
        reason = _clean(self._world.scenario, load_facts(self._again), self._root)
        if reason:
            tally.failures.append(f"after {outcome}: {reason}\n    {run.command()}")

    def _fresh(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        shutil.copytree(self._world.prepared, self._root, symlinks=True)


@contextmanager
def open_bench(directory: Path) -> Iterator[Bench]:
    """A bench in the new folder `directory`."""
    with open_world("install", directory) as world, _serving() as server:
        yield Bench(world, server, again(world), directory)


def _clean(scenario: str, facts: Facts, root: Path) -> str:
    try:
        check_image(facts, root)
        asyncio.run(SCENARIOS[scenario].recover(facts, root, []))
    except Broken as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever escapes is a failure of the recovery
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
    return ""
