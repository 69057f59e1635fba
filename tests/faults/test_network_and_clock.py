"""Lines that break, stall, crawl or lead nowhere, and clocks that jump: version 1 serves on, and version 2 arrives."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from agent.identity.store import Identity
from agent.paths import AgentPaths
from shared import canonical, durable
from shared.clock import SystemClock
from tests.faults.life import Life, living
from tests.faults.proxy import Line, Proxy, proxied
from tests.faults.world import World, open_world
from tests.ota.device import QUICK

IMPATIENT = msgspec.structs.replace(QUICK, read_timeout_s=0.5, connect_timeout_s=1.0)
DECADES_S = 50 * 365 * 86400.0


@dataclass(frozen=True)
class Place:
    """A device whose way to the hub leads through a proxy."""

    world: World
    proxy: Proxy
    root: Path


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with TemporaryDirectory() as folder, open_world("install", Path(folder) / "world") as made:
        yield made


@pytest.fixture
def place(world: World, tmp_path: Path) -> Iterator[Place]:
    if world.hub is None:
        raise LookupError("this world has no hub")
    with proxied(world.hub.url) as proxy:
        root = tmp_path / "state"
        shutil.copytree(world.prepared, root, symlinks=True)
        path = AgentPaths(root).identity / "identity.json"
        known = msgspec.json.decode(path.read_bytes(), type=Identity)
        durable.write_file(path, canonical.dumps(msgspec.structs.replace(known, hub_url=proxy.url)))
        yield Place(world, proxy, root)


async def arrives(life: Life) -> None:
    """The assigned version is committed, serves, and the hub is told."""
    status = await life.rest()
    assert (status.state, status.reason_code) == ("committed", "")
    assert life.predicts() == life.facts.version


async def asked(life: Life, proxy: Proxy, times: int) -> None:
    """Wait until the hub was tried so many times more."""
    least = proxy.connections + times
    await life.until(lambda: True if proxy.connections >= least else None, f"attempt {times}")


@pytest.mark.parametrize(
    "lines",
    [
        [Line(cut_after=count) for count in (1, 2000, 6000)],
        [Line(stall_after=count) for count in (1, 2000, 6000)],
        [Line(bytes_per_s=60_000)] * 20,
        [Line(cut_after=8192, bytes_per_s=200_000), Line(stall_after=8192)] * 2,
    ],
    ids=["cut", "stalled", "slow", "all of it"],
)
async def test_a_bad_line_delays_an_installation_and_nothing_else(place: Place, lines: list[Line]) -> None:
    place.proxy.lines = list(lines)
    async with living(place.world.facts, place.root, warm=True, settings=IMPATIENT) as life:
        await life.offer()
        await arrives(life)
    assert not place.proxy.lines or lines[0].bytes_per_s


async def test_a_hub_that_is_dead_for_a_while_is_waited_for(place: Place) -> None:
    place.proxy.down = True
    async with living(place.world.facts, place.root, warm=True, settings=IMPATIENT) as life:
        await life.offer()
        await asked(life, place.proxy, 3)
        assert life.predicts() == 1
        place.proxy.down = False
        await arrives(life)


async def test_a_hub_that_dies_with_every_connection_does_not_keep_the_agent_from_its_start(place: Place) -> None:
    place.proxy.down = True
    for _ in range(2):
        async with living(place.world.facts, place.root, warm=True, settings=IMPATIENT) as life:
            await life.offer()
            await asked(life, place.proxy, 1)
            assert life.predicts() == 1
    place.proxy.down = False
    async with living(place.world.facts, place.root, warm=True, settings=IMPATIENT) as life:
        await life.offer()
        await arrives(life)


class JumpingClock(SystemClock):
    """Jumps by decades with every look."""

    def __init__(self) -> None:
        self._jumps = cycle((0.0, DECADES_S, -DECADES_S))

    def now(self) -> float:
        return super().now() + next(self._jumps)


async def test_a_clock_that_jumps_by_decades_neither_stops_nor_hurries_the_daemon(place: Place) -> None:
    async with living(place.world.facts, place.root, warm=True, clock=JumpingClock()) as life:
        await life.offer()
        await arrives(life)
        async with asyncio.timeout(10):
            assert [report.state for report in await life.reports()][-1] == "committed"
