"""Bytes are counted by device and by run, and told by class of link with what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.deployments.compatibility import Compatibility
from hub.federated.run_traffic import RunTraffic, links_of
from hub.federated.standing import Roster
from hub.federated.traffic import UNKNOWN, Moved, by_link
from hub.store import federated_traffic
from hub.store.federated_traffic import TrafficRow
from shared.limits import MIB
from shared.profiles import load_profile
from tests.federated.run_kit import RunKit

LINKS = {name: load_profile(name).link for name in ("camera-armv7", "raspberry-pi-4", "x86-gateway")}
NAMES = st.sampled_from([*LINKS, "unheard-of"])
MOVED = st.builds(
    Moved, profile=NAMES, devices=st.integers(0, 99), bytes_down=st.integers(0, 2**40), bytes_up=st.integers(0, 2**40)
)


def test_bytes_are_told_by_class_of_link_with_their_cost() -> None:
    moved = [
        Moved(profile="camera-armv7", devices=2, bytes_down=3 * MIB, bytes_up=MIB),
        Moved(profile="raspberry-pi-4", devices=1, bytes_down=MIB, bytes_up=0),
        Moved(profile="x86-gateway", devices=4, bytes_down=MIB, bytes_up=5),
        Moved(profile="unheard-of", devices=1, bytes_down=7, bytes_up=0),
    ]
    found = {one.link: one for one in by_link(moved, LINKS)}
    assert list(found) == sorted(found)
    assert found["cellular"].cost == pytest.approx(4 * LINKS["camera-armv7"].cost_per_mib)
    assert (found["ethernet"].devices, found["ethernet"].bytes) == (5, 2 * MIB + 5)
    assert (found[UNKNOWN].bytes, found[UNKNOWN].cost) == (7, 0.0)


@given(st.lists(MOVED, max_size=12))
def test_no_byte_is_lost_or_told_twice(moved: list[Moved]) -> None:
    found = by_link(moved, LINKS)
    assert sum(one.bytes for one in found) == sum(one.bytes_down + one.bytes_up for one in moved)
    assert sum(one.devices for one in found) == sum(one.devices for one in moved)


def test_a_roster_tells_what_each_profile_has_moved_also_of_devices_that_have_left() -> None:
    roster = Roster()
    for number, group in enumerate(("cam", "cam", "pi")):
        roster.enrol(f"d-{number}", number, 9, group)
    roster.of("d-0").bytes_down += 10
    roster.of("d-1").bytes_up += 5
    roster.remove("d-0")
    (cam,) = roster.traffic()
    assert (cam.group, cam.devices, cam.bytes_down, cam.bytes_up) == ("cam", 2, 10, 5)
    (again,) = Roster(roster.standings()).traffic()
    assert again == cam, "a restarted worker knows it as well"


@pytest.fixture
def kit(tmp_path: Path, database_url: str) -> Iterator[RunKit]:
    kit = RunKit(tmp_path, database_url)
    yield kit
    kit.close()


def test_a_runs_sums_replace_those_before(kit: RunKit) -> None:
    run = kit.runs.create(kit.definition(), by="dana")
    for count in (1, 2):
        rows = [TrafficRow(profile="camera-armv7", devices=count, bytes_down=count * MIB, bytes_up=0)]
        with kit.db.write() as connection:
            federated_traffic.keep_traffic(connection, run.run_no, rows)
    (found,) = RunTraffic(kit.db, Compatibility()).of_run(run.run_id)
    assert (found.link, found.devices, found.bytes_down) == ("cellular", 2, 2 * MIB)
    assert links_of(Compatibility(), ["nothing"]) == {}
