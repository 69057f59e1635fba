"""Garbage collection: what can still be needed is never taken; the rest goes, and says so."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from hub.registry.collection import GarbageCollector
from hub.store import schema
from hub.store.audit import AuditFilter
from hub.store.blobs_index import put_dataset, record_blob
from hub.store.database import Connection
from hub.store.garbage import Retention
from hub.store.page import PageRequest
from hub.store.registry import GateRow, Status, insert_gate_result
from shared.errors import Conflict
from tests.databases import Backend
from tests.fleet_kit import FleetKit

FRESH_S = 100.0
OLD_S = 10_000.0


def collector(kit: FleetKit, approved_count: int = 1) -> GarbageCollector:
    retention = Retention(approved_count=approved_count, fresh_s=FRESH_S)
    return GarbageCollector(kit.db, kit.clock, kit.audit, kit.blobs, retention)


def collected(kit: FleetKit, approved_count: int = 1) -> list[int]:
    found = collector(kit, approved_count).run("adam", dry_run=False)
    return [item.version for item in found.bundles]


@pytest.fixture
def old(kit: FleetKit) -> FleetKit:
    """Version 1 is old, not approved, and nothing needs it."""
    kit.register("digits", 1)
    kit.add_device("pi-1")
    kit.clock.now_s += OLD_S
    return kit


def test_an_old_version_that_nothing_needs_goes_and_its_row_stays(old: FleetKit) -> None:
    digest = old.versions.get("digits", 1).bundle_sha256
    assert collected(old) == [1]
    row = old.versions.get("digits", 1)
    assert (row.bundle_sha256, row.available) == (digest, False)
    assert not old.blobs.exists(digest)
    assert old.audit.list(AuditFilter(action="gc.run"), PageRequest(limit=5))[0].actor == "adam"


def test_a_dry_run_removes_nothing(old: FleetKit) -> None:
    found = collector(old).run("adam", dry_run=True)
    assert [item.version for item in found.bundles] == [1]
    assert found.bytes > 0
    assert old.versions.get("digits", 1).available


def test_a_collected_bundle_comes_back_when_it_is_registered_again(old: FleetKit) -> None:
    assert collected(old) == [1]
    with pytest.raises(Conflict) as caught:
        old.aliases.move("digits", "canary", 1, "", "olga")
    assert caught.value.code == "version.collected"
    assert not old.register("digits", 1).created
    assert old.versions.get("digits", 1).available
    assert collected(old) == []  # it is fresh again


NEEDS: dict[str, Callable[[FleetKit], object]] = {
    "a device serves it": lambda kit: kit.report("pi-1", version=1, state="committed"),
    "a device could roll back to it": lambda kit: kit.report("pi-1", version=9, previous_version=1),
    "a device is installing it": lambda kit: kit.report("pi-1", version=9, target_version=1, state="downloading"),
    "an alias names it": lambda kit: kit.aliases.move("digits", "canary", 1, "", "olga"),
    "it is assigned": lambda kit: kit.deployments.create("digits", 1, "all", "", "olga"),
    "it is the newest approved one": lambda kit: None,
    "it is being signed": lambda kit: stage(kit, "digits", 1),
}


def stage(kit: FleetKit, model: str, version: int) -> None:
    with kit.db.write() as connection:
        connection.execute(
            insert(schema.tuf_staged).values(
                role=f"model-{model}",
                version=1,
                bytes=b"{}",
                context={"model": model, "version": version},
                staged_s=0.0,
                staged_by="rita",
            )
        )


@pytest.mark.parametrize("need", list(NEEDS))
def test_a_version_stays_while(old: FleetKit, need: str) -> None:
    if need in ("it is assigned", "it is the newest approved one"):
        old.approve("digits", 1)
    NEEDS[need](old)
    assert collected(old) == []
    assert old.versions.get("digits", 1).available


def test_where_an_alias_was_before_stays_too(kit: FleetKit) -> None:
    for version in (1, 2, 3):
        kit.register("digits", version)
        kit.aliases.move("digits", "canary", version, "", "olga")
    kit.clock.now_s += OLD_S
    assert collected(kit) == [1]


def test_the_newest_approved_versions_stay(kit: FleetKit) -> None:
    kit.release("digits", 1, 2, 3, 4)
    kit.versions.withdraw("digits", 4, "", "olga")
    kit.clock.now_s += OLD_S
    assert collected(kit, approved_count=2) == [1, 4]


def test_a_stray_file_goes_once_it_is_old_and_never_before(kit: FleetKit) -> None:
    young, stray = kit.blobs.put_bytes(b"young"), kit.blobs.put_bytes(b"stray")
    os.utime(kit.blobs.local_path(stray.sha256), (0, 0))
    kept = kit.register("digits", 1).version.bundle_sha256
    os.utime(kit.blobs.local_path(kept), (0, 0))
    assert collector(kit).run("adam", dry_run=False).strays == 1
    assert not kit.blobs.exists(stray.sha256)
    assert kit.blobs.exists(young.sha256)
    assert kit.blobs.exists(kept)


def test_a_cut_between_file_and_row_is_finished_by_the_next_run(old: FleetKit) -> None:
    old.blobs.remove(old.versions.get("digits", 1).bundle_sha256)
    assert collected(old) == [1]
    assert not old.versions.get("digits", 1).available


def test_a_data_set_goes_with_the_last_version_that_it_judged(old: FleetKit) -> None:
    def dataset(data: bytes, *judged: int) -> str:
        sha256 = old.blobs.put_bytes(data).sha256
        with old.db.write() as connection:
            record_blob(connection, sha256, len(data), "dataset", 0.0)
            put_dataset(connection, sha256, data.decode(), 1, 0.0, "dana")
            for version in judged:
                result = GateRow(
                    gate_id=0,
                    model="digits",
                    version=version,
                    dataset_sha256=sha256,
                    dataset_name="",
                    passed=True,
                    metrics={},
                    checks=[],
                    at_s=0.0,
                    by="dana",
                )
                insert_gate_result(connection, result)
        return sha256

    old.register("digits", 2)
    unused, leaving, needed_still = dataset(b"unused"), dataset(b"leaving", 1), dataset(b"needed", 1, 2)
    expected = {unused, leaving}
    assert {item.sha256 for item in collector(old).run("adam", dry_run=True).datasets} == expected
    assert {item.sha256 for item in collector(old).run("adam", dry_run=False).datasets} == expected
    assert [old.blobs.exists(digest) for digest in (unused, leaving, needed_still)] == [False, False, True]


# --- the property -----------------------------------------------------------------------------------------------
VERSIONS = st.integers(1, 6)
MAYBE = st.none() | VERSIONS


@dataclass(frozen=True)
class World:
    """Everything that may point to versions 1 to 6 of one model."""

    ages: list[bool]  # True: old
    statuses: list[Status]
    devices: list[tuple[int | None, int | None, int | None]]  # serves, previous, target
    assigned: list[int | None]  # by device
    moves: list[tuple[str, int | None]]
    staged: int | None
    keep: int


WORLDS = st.builds(
    World,
    ages=st.lists(st.booleans(), min_size=6, max_size=6),
    statuses=st.lists(st.sampled_from(list(Status)), min_size=6, max_size=6),
    devices=st.lists(st.tuples(MAYBE, MAYBE, MAYBE), max_size=3),
    assigned=st.lists(MAYBE, min_size=3, max_size=3),
    moves=st.lists(st.tuples(st.sampled_from(["production", "canary"]), MAYBE), max_size=6),
    staged=MAYBE,
    keep=st.integers(1, 3),
)


def needed(world: World) -> set[int]:
    """What can still be needed, by plain reasoning."""
    out = {version for version, old in enumerate(world.ages, 1) if not old}
    for row in world.devices:
        out |= {version for version in row if version is not None}
    out |= {version for version in world.assigned[: len(world.devices)] if version is not None}
    for alias in ("production", "canary"):
        places = [version for name, version in world.moves if name == alias]
        out |= {version for version in places[-2:] if version is not None}
    approved = [version for version, status in enumerate(world.statuses, 1) if status is Status.APPROVED]
    out |= set(sorted(approved)[-world.keep :])
    return out | ({world.staged} if world.staged else set())


@contextmanager
def built(world: World, backend: Backend) -> Iterator[FleetKit]:
    with tempfile.TemporaryDirectory() as folder, backend.fresh(Path(folder)) as url:
        kit = FleetKit(Path(folder), url)
        try:
            _fill(kit, world)
            yield kit
        finally:
            kit.close()


def _fill(kit: FleetKit, world: World) -> None:
    with kit.db.write() as connection:
        row = {"model": "m", "description": "", "gate": {}, "bake_s": 0, "created_s": 0.0, "created_by": "dana"}
        connection.execute(insert(schema.models).values(row))
        for version, (old, status) in enumerate(zip(world.ages, world.statuses, strict=True), 1):
            _add_version(kit, connection, version, old, status)
        for alias, place in world.moves:
            row = {"model": "m", "alias": alias, "version": place, "at_s": 0.0, "by": "olga", "reason": ""}
            connection.execute(insert(schema.alias_history).values(row))
    if world.staged is not None:
        stage(kit, "m", world.staged)
    for index, (serves, previous, target) in enumerate(world.devices):
        kit.add_device(f"d{index}")
        kit.report(f"d{index}", "m", version=serves, previous_version=previous, target_version=target)
        assigned = world.assigned[index]
        if assigned is not None:
            _assign(kit, f"d{index}", assigned)


def _add_version(kit: FleetKit, connection: Connection, version: int, old: bool, status: Status) -> None:
    created_s = kit.clock.now() - (OLD_S if old else FRESH_S / 2)
    sha256 = kit.blobs.put_bytes(b"%d" % version).sha256
    blob = {"sha256": sha256, "bytes": 1, "kind": "bundle", "created_s": created_s}
    row = {"model": "m", "version": version, "status": status.value, "bundle_sha256": sha256, "bundle_bytes": 1}
    row |= {"manifest": "{}", "card": "", "created_s": created_s, "created_by": "dana"}
    connection.execute(insert(schema.blobs).values(blob))
    connection.execute(insert(schema.versions).values(row))


def _assign(kit: FleetKit, device_id: str, version: int) -> None:
    row = {"device_id": device_id, "model": "m", "version": version, "bundle_sha256": "0" * 64, "bundle_bytes": 1}
    row |= {"counter": 1, "bake_s": 0, "issued_s": 0.0, "expires_s": 0.0, "deployment_id": "d"}
    with kit.db.write() as connection:
        connection.execute(insert(schema.assignments).values(row))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=WORLDS)
def test_collection_takes_exactly_what_nothing_can_still_need(backend: Backend, world: World) -> None:
    with built(world, backend) as kit:
        taken = set(collected(kit, world.keep))
        assert taken == set(range(1, 7)) - needed(world)
        for version in range(1, 7):
            row = kit.versions.get("m", version)
            assert kit.blobs.exists(row.bundle_sha256) == row.available == (version not in taken)
