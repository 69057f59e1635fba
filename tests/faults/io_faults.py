"""Failing calls of the C library, by Debian's fiu-utils: what they do to an installation, and that it is made good.

The promise is aktualizr's and more: after any run under faults the device still serves a right version, and the next
run without faults succeeds. A fault run is a fork of a warm server (`tests.faults.fiu_server`), so that thousands fit
in a night.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import subprocess
import sys
import traceback
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
from tests.faults.world import World

__all__ = ["ERRORS", "FaultRun", "FaultTally", "FiuServer", "missing_for_io_faults", "order_of", "run_one", "serving"]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EINTR)
_PROBABILITIES = (0.0005, 0.002, 0.01)
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
    """What was tried."""

    runs: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.runs} runs under faults ({self.ends}), {len(self.failures)} failures"


class FiuServer:
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
def serving() -> Iterator[FiuServer]:
    """A server for the block."""
    command = ["fiu-run", "-f", "", "-x", sys.executable, "-m", "tests.faults.fiu_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield FiuServer(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(_PATIENCE_S)


def order_of(world: World, run: FaultRun, root: Path) -> Order:
    """The life of a run."""
    plain = Order(facts=str(world.facts_file), scenario=world.scenario, root=str(root))
    if run.k:
        return msgspec.structs.replace(plain, k=run.k, errno=run.errno)
    random = Random(run.seed)
    chosen, chance = random.choice((0, *ERRORS)), random.choice(_PROBABILITIES)
    return msgspec.structs.replace(plain, seed=run.seed, errno=chosen, probability=chance)


def run_one(world: World, again: Path, server: FiuServer, run: FaultRun, directory: Path, tally: FaultTally) -> Outcome:
    """One run and the clean one after it; `again` are the facts of the hub's next assignment."""
    root = directory / "faulty"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(world.prepared, root, symlinks=True)
    outcome = server.run(order_of(world, run, root))
    tally.runs += 1
    tally.ends[outcome.end] = tally.ends.get(outcome.end, 0) + 1
    reason = _clean(world.scenario, load_facts(again), root)
    if reason:
        tally.failures.append(f"after {outcome}: {reason}\n    {run.command()}")
    return outcome


def _clean(scenario: str, facts: Facts, root: Path) -> str:
    try:
        check_image(facts, root)
        asyncio.run(SCENARIOS[scenario].recover(facts, root, []))
    except Broken as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever escapes is a failure of the recovery
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
    return ""
