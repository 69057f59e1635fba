"""A power cut behind any operation on files: a right version serves at every instant, and the next start converges.

Installations are cut everywhere, with and without what was not synced; the other operations and kinds of cut, and
second cuts in the middle of a recovery, are sampled by seed. `scripts/soak faults` does them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.faults.crashes import Crash, Tally, crashes, explore, explore_pairs, trace_act
from tests.faults.disk import Cut
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import World, open_world

SEED = 1
WHOLE = (Cut.KILL, Cut.DROP)
PARTIAL = (Cut.SHORT, Cut.HOLES, Cut.TORN, Cut.MIXED)
SAMPLE = {
    "install": 60,
    "first-install": 100,
    "resumed-install": 100,
    "delta-install": 60,
    "bad-delta": 60,
    "held-install": 80,
    "shadow-install": 80,
}
EVERYWHERE = ["install", "delta-install"]
PAIRS = {"install": (8, 8), "first-install": (4, 8), "rollback": (5, 8), "outbox": (5, 8)}
OTHERS = sorted(set(SCENARIOS) - {"install"})

Record = Callable[[str, object], None]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("strace")]


def sample(found: Sequence[Crash], count: int) -> list[Crash]:
    """So many of them, always the same, in order."""
    chosen = sorted(Random(SEED).sample(range(len(found)), min(count, len(found))))
    return [found[number] for number in chosen]


def judge(name: str, tally: Tally, record_property: Record) -> None:
    """Tell the numbers; the failures, if any, with their commands."""
    record_property("figures", f"{name}: {tally}")
    assert tally.cuts
    assert not tally.failures, "\n".join(map(str, tally.failures[:10]))


def all_crashes(world: World, area: Path, cuts: Sequence[Cut]) -> list[Crash]:
    """The crashes of one traced run."""
    return list(crashes(world.prepared, trace_act(world, area), cuts, SEED))


@pytest.mark.parametrize("scenario", EVERYWHERE)
def test_an_installation_may_be_cut_behind_every_operation(scenario: str, area: Path, record_property: Record) -> None:
    tally = Tally()
    with open_world(scenario, area / "world") as world:
        explore(world, iter(all_crashes(world, area, WHOLE)), area, tally, SEED)
    judge(f"{scenario}, everywhere", tally, record_property)


@pytest.mark.parametrize("scenario", ["install", *OTHERS])
def test_any_operation_may_be_cut_in_any_way(scenario: str, area: Path, record_property: Record) -> None:
    tally, pairs = Tally(), Tally()
    modes = PARTIAL if scenario in EVERYWHERE else tuple(Cut)
    with open_world(scenario, area / "world") as world:
        found = all_crashes(world, area, modes)
        explore(world, iter(sample(found, SAMPLE.get(scenario, 150))), area, tally, SEED)
        first, each = PAIRS.get(scenario, (4, 6))
        explore_pairs(world, sample(found, first), area, pairs, SEED, cuts=tuple(Cut), each=each)
    judge(scenario, tally, record_property)
    judge(f"{scenario}, pairs", pairs, record_property)
