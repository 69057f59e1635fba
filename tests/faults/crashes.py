"""Cuts at every operation: one traced run of a scenario, an image for each cut, and the agent's recovery on each.

Images that nothing can tell apart are recovered once and counted as often as they occur. A failure carries the
command that reproduces it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.disk import Cut, Disk, Image, digest, materialise
from tests.faults.life import Broken
from tests.faults.scenarios import SCENARIOS
from tests.faults.trace import Op, run_traced
from tests.faults.world import World

__all__ = ["Crash", "Failure", "Tally", "crashes", "explore", "explore_pairs", "check_model", "recover", "trace_act"]

_BATCH = 40


@dataclass(frozen=True, slots=True)
class Crash:
    """The image after a cut behind operation `k` (1 is the first; 0: before any). `j`: of the recovery, for pairs."""

    k: int
    cut: Cut
    image: Image
    marks: tuple[str, ...]
    last: str
    j: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One broken promise and how to see it again."""

    scenario: str
    crash: Crash
    seed: int
    reason: str

    def __str__(self) -> str:
        crash = self.crash
        again = f" --j {crash.j}" if crash.j is not None else ""
        command = f"scripts/soak faults {self.scenario} --mode {crash.cut} --k {crash.k}{again} --seed {self.seed}"
        return f"{self.scenario}, {crash.cut} behind operation {crash.k} ({crash.last}): {self.reason}\n    {command}"


@dataclass
class Tally:
    """What was tried."""

    cuts: int = 0
    images: int = 0
    failures: list[Failure] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{self.cuts} cuts, {self.images} different images, {len(self.failures)} failures"


def trace_act(world: World, directory: Path, *, warm: bool = False) -> list[Op]:
    """Trace the scenario's operation; the model's last image is checked against the real folder."""
    root = directory / "traced"
    shutil.copytree(world.prepared, root, symlinks=True)
    command = _command(world, "act", "warm" if warm else "cold", [root])
    ops = run_traced(command, [root], directory / "trace")[root]
    check_model(world.prepared, ops, root)
    return ops


def check_model(before: Path, ops: Sequence[Op], after: Path) -> None:
    """Replaying the operations over `before` must give `after`; else the trace overlooked something."""
    disk = Disk(before)
    for op in ops:
        disk.apply(op)
    replayed = disk.image(Cut.KILL, Random(0))
    real = Disk(after).image(Cut.KILL, Random(0))
    if digest(replayed) != digest(real):
        differ = sorted(path for path in {*replayed, *real} if replayed.get(path, "-") != real.get(path, "-"))
        raise AssertionError(f"the model and the disk differ in {differ}")


def _command(world: World, step: str, warmth: str, roots: Sequence[Path]) -> list[str]:
    program = [sys.executable, "-m", "tests.faults.actor", str(world.facts_file)]
    return [*program, world.scenario, step, warmth, *map(str, roots)]


def crashes(before: Path, ops: Sequence[Op], cuts: Sequence[Cut], seed: int) -> Iterator[Crash]:
    """Every cut of a trace; behind each operation one per mode (`torn` only behind writes)."""
    disk, marks, k = Disk(before), list[str](), 0
    for op in ops:
        if op.call == "mark":
            marks.append(op.other)
            continue
        k += 1
        disk.apply(op)
        for cut in cuts:
            if cut is not Cut.TORN or op.call == "write":
                image = disk.image(cut, Random(f"{seed} {k} {cut}"), op)
                yield Crash(k, cut, image, tuple(marks), str(op))


def explore(world: World, found: Iterator[Crash], directory: Path, tally: Tally, seed: int) -> None:
    """Recover from each crash; identical ones once."""
    for crash in found:
        tally.cuts += 1
        name = f"{digest(crash.image)} {crash.marks}"
        if name in tally.seen:
            continue
        tally.seen.add(name)
        tally.images += 1
        reason = recover(world, crash, directory / "image")
        if reason:
            tally.failures.append(Failure(world.scenario, crash, seed, reason))


def recover(world: World, crash: Crash, root: Path) -> str:
    """The broken promise of one crash; empty when all were kept."""
    shutil.rmtree(root, ignore_errors=True)
    materialise(crash.image, root)
    scenario = SCENARIOS[world.scenario]
    try:
        scenario.check(world.facts, root, crash.marks)
        asyncio.run(scenario.recover(world.facts, root, crash.marks))
    except Broken as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever escapes is a failure of the recovery
        return f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
    return ""


def _second(first: Crash, one: Crash) -> Crash:
    """The crash of a recovery, told with the crash that it recovered from."""
    return Crash(first.k, first.cut, one.image, first.marks, f"{first.last}; then {one.cut} behind {one.last}", one.k)


def explore_pairs(
    world: World,
    found: Sequence[Crash],
    directory: Path,
    tally: Tally,
    seed: int,
    *,
    cuts: Sequence[Cut],
    each: int,
    only: int | None = None,
) -> None:
    """Trace the recovery of each crash, cut it again at up to `each` places by seed (or `only` there), and recover."""
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        roots = [directory / f"first-{start + number}" for number in range(len(batch))]
        bases = [directory / f"base-{start + number}" for number in range(len(batch))]
        for crash, root, base in zip(batch, roots, bases, strict=True):
            materialise(crash.image, root)
            materialise(crash.image, base)
        traces = run_traced(_command(world, "recover", "warm", roots), roots, directory / "trace")
        for crash, root, base in zip(batch, roots, bases, strict=True):
            second = [one for one in crashes(base, traces[root], cuts, seed) if only in (None, one.k)]
            chosen = Random(f"{seed} {crash.k} {crash.cut}").sample(second, min(each, len(second)))
            again = (_second(crash, one) for one in chosen)
            explore(world, again, directory, tally, seed)
            shutil.rmtree(root)
            shutil.rmtree(base)
