"""Deltas at the hub: made ahead and once, offered to whom both bundles are due, collected when nobody needs them."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import insert

from hub.deltas.maker import DeltaMaker
from hub.deltas.protocol import Limits
from hub.deltas.service import DeltaService
from hub.registry.collection import Collected, GarbageCollector
from hub.store import deltas as store
from hub.store import schema
from hub.store.deltas import DeltaRow, DeltaState
from hub.store.garbage import Retention
from shared.delta.apply import apply_delta
from shared.delta.format import Pair
from shared.delta.source import ArchiveFile
from shared.errors import NotFound, SkerryError
from shared.wire.delta import DeltaOffer
from tests.hub_deltas.conftest import DeltaKit


@pytest.fixture
def fleet(kit: DeltaKit) -> DeltaKit:
    """pi-1 serves version 1 and is assigned version 2."""
    kit.versions_like(1, 2)
    kit.add_device("pi-1")
    kit.report("pi-1", version=1, state="committed")
    kit.deployments.create("digits", 2, "all", "", "olga")
    return kit


def rows(kit: DeltaKit, to: int, *sources: int) -> list[DeltaRow]:
    with kit.db.read() as connection:
        return store.find(connection, kit.digest(to), [kit.digest(one) for one in sources])


def offered(kit: DeltaKit, to: int, *sources: int, device: str = "pi-1") -> DeltaOffer | None:
    return kit.service.offer(device, kit.digest(to), [kit.digest(one) for one in sources])


def refused(kit: DeltaKit, to: int, *sources: int, device: str = "pi-1") -> str:
    with pytest.raises(NotFound) as caught:
        offered(kit, to, *sources, device=device)
    return caught.value.code


def test_a_deployment_has_deltas_made_from_what_the_fleet_serves(fleet: DeltaKit) -> None:
    assert offered(fleet, 2, 1) is None  # wanted, so that a device waits a little
    assert fleet.make_all() == 1
    offer = offered(fleet, 2, 1)
    assert offer is not None
    assert offer.bytes < 2000
    pair = Pair(
        from_sha256=fleet.digest(1),
        from_bytes=fleet.versions.get("digits", 1).bundle_bytes,
        to_sha256=fleet.digest(2),
        to_bytes=fleet.versions.get("digits", 2).bundle_bytes,
    )
    found = fleet.service.open("pi-1", fleet.digest(2), fleet.digest(1))
    assert found == offer.sha256
    out = bytearray()
    with (
        fleet.blobs.local_path(found).open("rb") as delta,
        ArchiveFile(fleet.blobs.local_path(fleet.digest(1))) as old,
    ):
        apply_delta(delta, old, out.extend, pair)
    assert bytes(out) == fleet.blobs.local_path(fleet.digest(2)).read_bytes()


def test_a_deployment_costs_no_delta_from_versions_that_nobody_serves(kit: DeltaKit) -> None:
    kit.versions_like(1, 2, 3)
    kit.add_device("pi-1")
    kit.report("pi-1", version=2, state="committed")
    kit.deployments.create("digits", 3, "all", "", "olga")
    assert rows(kit, 3, 1) == []
    assert [row.state for row in rows(kit, 3, 2)] == [DeltaState.WANTED]


def test_a_delta_is_made_once_however_often_it_is_asked_for(fleet: DeltaKit) -> None:
    assert fleet.make_all() == 1
    fleet.deployments.create("digits", 2, "all", "", "olga")
    assert [offered(fleet, 2, 1) is not None for _ in range(3)] == [True] * 3
    assert fleet.make_all() == 0


def test_what_was_not_foreseen_is_made_when_a_device_asks(fleet: DeltaKit) -> None:
    """The device could roll back to version 1 and holds it, though no device serves it any more."""
    fleet.versions_like(3)
    fleet.report("pi-1", version=2, previous_version=1, state="committed")
    with fleet.db.write() as connection:
        connection.execute(schema.deltas.delete())
    fleet.deployments.create("digits", 3, "all", "", "olga")
    assert rows(fleet, 3, 1) == []
    with fleet.db.write() as connection:
        connection.execute(schema.deltas.delete())
    rung = fleet.rung
    assert offered(fleet, 3, 1) is None
    assert fleet.rung == rung + 1
    assert fleet.make_all() == 1
    assert offered(fleet, 3, 1) is not None


def test_the_smallest_of_several_is_offered(kit: DeltaKit) -> None:
    kit.release("digits", 1, extractor=Random(2).randbytes(50_000))
    kit.versions_like(2, 3)
    kit.add_device("pi-1")
    kit.report("pi-1", version=2, previous_version=1, state="committed")
    kit.deployments.create("digits", 3, "all", "", "olga")
    kit.make_all()
    offer = offered(kit, 3, 1, 2)
    assert offer is not None
    assert offer.from_sha256 == kit.digest(2)


def test_a_device_gets_no_delta_from_or_to_what_is_not_its_own(fleet: DeltaKit) -> None:
    fleet.make_all()
    fleet.add_device("pi-2")
    assert refused(fleet, 2, 1, device="pi-2") == "delta.none"  # not assigned
    fleet.deployments.create("digits", 2, "id==pi-2", "", "olga")
    assert refused(fleet, 2, 1, device="pi-2") == "delta.none"  # never had the source
    with pytest.raises(NotFound) as caught:
        fleet.service.open("pi-2", fleet.digest(2), fleet.digest(1))
    assert caught.value.code == "delta.none"
    assert refused(fleet, 2, 2) == "delta.none"


def test_a_delta_that_saves_too_little_is_not_kept_and_not_tried_again(kit: DeltaKit) -> None:
    for number in (1, 2):
        kit.release("digits", number, extractor=Random(number).randbytes(50_000))
    kit.add_device("pi-1")
    kit.report("pi-1", version=1, state="committed")
    kit.deployments.create("digits", 2, "all", "", "olga")
    assert kit.make_all() == 1
    assert [(row.state, row.reason_code) for row in rows(kit, 2, 1)] == [(DeltaState.NONE, "delta.not_worth")]
    assert refused(kit, 2, 1) == "delta.none"
    assert kit.make_all() == 0


def test_hubs_that_make_at_once_never_make_the_same(fleet: DeltaKit) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _number: fleet.service.make_next(), range(4)))
    assert sorted(done) == [False, False, False, True]


def test_a_claim_of_a_hub_that_died_is_taken_over(fleet: DeltaKit) -> None:
    with fleet.db.write() as connection:
        assert store.claim(connection, fleet.clock.now(), fleet.clock.now() + 100) is not None
    assert not fleet.service.make_next()
    fleet.clock.now_s += 101
    assert fleet.service.make_next()
    assert offered(fleet, 2, 1) is not None


# --- the child --------------------------------------------------------------------------------------------------------
def failing(fleet: DeltaKit, program: str, timeout_s: float = 60.0) -> tuple[DeltaService, DeltaMaker]:
    maker = DeltaMaker(fleet.folder / "scratch", Limits(user="", timeout_s=timeout_s), [sys.executable, "-c", program])
    return DeltaService(fleet.db, fleet.clock, fleet.blobs, maker), maker


@pytest.mark.parametrize(
    ("program", "timeout_s", "code"),
    [
        ("import os; os.abort()", 60.0, "delta.worker_failed"),
        ("print('[1, 2')", 60.0, "delta.worker_failed"),
        ("import time; time.sleep(600)", 0.5, "delta.timeout"),
        ("print('x' * 1_000_000)", 60.0, "delta.worker_failed"),
    ],
    ids=["crash", "noise", "silence", "flood"],
)
def test_a_making_that_fails_is_repeated_some_times_and_then_given_up(
    fleet: DeltaKit, program: str, timeout_s: float, code: str
) -> None:
    service, _maker = failing(fleet, program, timeout_s)
    assert [service.make_next() for _ in range(4)] == [True, True, True, False]
    assert [(row.state, row.reason_code) for row in rows(fleet, 2, 1)] == [(DeltaState.NONE, code)]
    assert refused(fleet, 2, 1) == "delta.none"


def test_a_lying_child_makes_nothing(fleet: DeltaKit) -> None:
    lie = {"bytes": 5, "from_sha256": "0" * 64, "to_sha256": fleet.digest(2)}
    service, _maker = failing(fleet, f"import json; print(json.dumps({lie!r}))")
    service.make_next()
    assert [(row.state, row.reason_code) for row in rows(fleet, 2, 1)] == [(DeltaState.NONE, "delta.wrong_pair")]


def test_what_a_hub_was_making_when_it_ended_is_made_by_the_next(fleet: DeltaKit) -> None:
    service, maker = failing(fleet, "import time; time.sleep(600)")
    maker.stop()
    assert service.make_next()
    assert [(row.state, row.attempts) for row in rows(fleet, 2, 1)] == [(DeltaState.WANTED, 0)]
    assert fleet.make_all() == 1


def test_the_child_has_no_more_memory_than_it_is_given(kit: DeltaKit, tmp_path: Path) -> None:
    for number in (1, 2):
        kit.release("digits", number, extractor=Random(number).randbytes(4_000_000))
    old, new = (kit.blobs.local_path(kit.digest(number)) for number in (1, 2))
    tight = DeltaMaker(tmp_path / "tight", Limits(user="", memory_bytes=48 * 1024**2))
    with (
        pytest.raises(SkerryError) as caught,
        tight.make(old, new, kit.digest(1), kit.digest(2)),
    ):
        pytest.fail("it had no memory to be made in")
    assert (caught.value.code, caught.value.retriable) == ("delta.worker_failed", True)
    assert not list((tmp_path / "tight").iterdir())


# --- collecting -------------------------------------------------------------------------------------------------------
def collected(kit: DeltaKit, *, dry_run: bool = False) -> Collected:
    retention = Retention(approved_count=1, fresh_s=100.0)
    return GarbageCollector(kit.db, kit.clock, kit.audit, kit.blobs, retention).run("adam", dry_run=dry_run)


def test_a_delta_stays_while_a_device_is_on_the_way_along_it(fleet: DeltaKit) -> None:
    fleet.make_all()
    fleet.clock.now_s += 1000
    assert collected(fleet).deltas == []
    assert offered(fleet, 2, 1) is not None


def test_a_delta_goes_once_nobody_is_on_the_way_and_may_be_made_again(fleet: DeltaKit) -> None:
    fleet.make_all()
    found = fleet.service.open("pi-1", fleet.digest(2), fleet.digest(1))
    fleet.report("pi-1", version=2, previous_version=1, state="committed")
    assert collected(fleet).deltas == []  # fresh
    fleet.clock.now_s += 1000
    assert [item.sha256 for item in collected(fleet, dry_run=True).deltas] == [found]
    gone = collected(fleet)
    assert [item.sha256 for item in gone.deltas] == [found]
    assert not fleet.blobs.exists(found)
    assert rows(fleet, 2, 1) == []
    assert offered(fleet, 2, 1) is None
    assert fleet.make_all() == 1
    assert offered(fleet, 2, 1) is not None


def test_a_delta_goes_with_either_of_its_bundles(fleet: DeltaKit) -> None:
    fleet.make_all()
    found = fleet.service.open("pi-1", fleet.digest(2), fleet.digest(1))
    fleet.versions_like(3)
    fleet.report("pi-1", version=3, state="committed")
    fleet.deployments.create("digits", 3, "all", "", "olga")
    fleet.clock.now_s += 1000
    gone = collected(fleet)
    assert {item.version for item in gone.bundles} == {1, 2}
    assert found in [item.sha256 for item in gone.deltas]


def test_a_delta_is_no_stray_file(fleet: DeltaKit) -> None:
    fleet.make_all()
    found = fleet.service.open("pi-1", fleet.digest(2), fleet.digest(1))
    os.utime(fleet.blobs.local_path(found), (0, 0))
    assert collected(fleet).strays == 0
    assert fleet.blobs.exists(found)


def test_a_row_that_was_never_made_is_forgotten_too(kit: DeltaKit) -> None:
    kit.versions_like(1, 2)
    with kit.db.write() as connection:
        values: dict[str, object] = {"to_sha256": kit.digest(2), "from_sha256": kit.digest(1), "model": "digits"}
        values |= {"state": "none"}
        values |= {"reason_code": "delta.not_worth", "attempts": 1, "wanted_s": 0.0}
        connection.execute(insert(schema.deltas).values(values))
    kit.clock.now_s += 1000
    assert collected(kit).deltas == []
    assert rows(kit, 2, 1) == []
