"""Every state with every trouble: the chain of states and reports is the table's, and the table leaves nothing out."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from agent.ota.machine import REST, TRANSITIONS, State
from shared.wire.down import CONDITIONAL_SCHEMA, Window
from tests.faults.case_table import CASES
from tests.faults.troubles import MODEL, OPENS_IN_S, Case, Trouble, live
from tests.faults.world import World, open_world
from tests.ota.conftest import bundle
from tests.ota.hub_sim import DEVICE

PAIRS = list(itertools.product(State, Trouble))


@dataclass(frozen=True)
class Stage:
    """Version 1 committed, and signed assignments of versions 2 and 3; `waiting`: of version 2 with a window."""

    world: World
    waiting: bytes
    second: bytes
    third: bytes


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with TemporaryDirectory() as folder, open_world("install", Path(folder) / "world") as world:
        if world.hub is None:
            raise LookupError("this world has no hub")
        kit = world.hub.kit
        kit.approve(MODEL, 3, bundle(3))
        later = datetime.fromtimestamp(time.time() + OPENS_IN_S, UTC)
        window = Window(cron=f"{later.minute} {later.hour} * * *", duration_s=7200, timezone="UTC")
        more: dict[str, Any] = {"schema_version": CONDITIONAL_SCHEMA, "window": window}
        waiting = kit.assignment(DEVICE, MODEL, 2, counter=2, bake_s=0, **more)
        plain = [kit.assignment(DEVICE, MODEL, version, counter=version, bake_s=0) for version in (2, 3)]
        yield Stage(world, waiting, *plain)


def test_the_table_has_every_state_with_every_trouble() -> None:
    assert set(CASES) == set(PAIRS)


def test_the_table_shows_every_state_of_the_machine_and_only_its_transitions() -> None:
    ways = {(state.value, target.value) for (state, _), target in TRANSITIONS.items()}
    ways |= {(rest.value, target) for rest in REST for _, target in ways if target == State.ASSIGNED}
    shown = {pair for row in CASES.values() for pair in itertools.pairwise(row.chain)}
    assert shown <= ways
    assert {state for row in CASES.values() for state in row.chain} == {state.value for state in State} - {"idle"}


@pytest.mark.parametrize(("state", "trouble"), PAIRS)
async def test_a_trouble_in_a_state_ends_as_the_table_says(
    stage: Stage, tmp_path: Path, state: State, trouble: Trouble
) -> None:
    if stage.world.hub is None:
        raise LookupError("this world has no hub")
    root = tmp_path / "state"
    shutil.copytree(stage.world.prepared, root, symlinks=True)
    if state is State.IDLE:
        shutil.rmtree(root / "models")
    second = stage.waiting if state is State.HELD else stage.second
    told = await live(Case(state, trouble), stage.world.hub, root, second, stage.third)
    row = CASES[state, trouble]
    assert (tuple(told.chain), told.serves) == (row.chain, row.serves)
    cut = state in REST and trouble is Trouble.ERROR
    assert tuple(told.reports) in ((row.chain, row.chain[1:]) if cut else (row.chain,))
