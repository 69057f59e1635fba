"""Health adds up exactly once by version, profile, cohort and period, and the gates' questions read it back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, insert, select

from hub.ingest.health import Said, gather, period_of
from hub.ingest.retention import HealthRetention
from hub.ingest.service import IngestService, Received
from hub.store.database import Database
from hub.store.health import (
    HealthSums,
    Scope,
    control_health,
    control_latency,
    shadow_health,
    shadow_latency,
    version_health,
    version_latency,
)
from hub.store.schema import (
    assignments,
    blobs,
    device_status,
    devices,
    health_latency,
    health_windows,
    models,
    versions,
)
from shared.latency import percentile_us
from shared.limits import HEALTH_PERIOD_S, MAX_HEALTH_COUNT
from shared.wire.health import Health, ShadowHealth, VersionHealth
from tests.ingest.test_ingest_service import EPOCH, LATER, FixedClock, message

PROFILES = {"dev1": "x86-gateway", "dev2": "x86-gateway", "pi": "raspberry-pi-4"}
COHORTS = {"dev1": "r-canary", "pi": "r-canary"}
BASE_S = period_of(1_000_000.0)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.write() as connection:
        rows = [
            {"device_id": d, "status": "active", "profile": p, "hardware_id": "", "enrolled_s": 1.0}
            for d, p in PROFILES.items()
        ]
        connection.execute(insert(devices), rows)
        _registry(connection)
        connection.execute(insert(assignments), [_assignment(d, deployment) for d, deployment in COHORTS.items()])
    yield database
    database.close()


def _registry(connection: Any) -> None:
    connection.execute(
        insert(models),
        {"model": "digits", "description": "", "gate": {}, "bake_s": 0, "created_s": 1.0, "created_by": "x"},
    )
    for version in (1, 2, 3):
        connection.execute(insert(blobs), {"sha256": f"{version}" * 64, "bytes": 1, "kind": "bundle", "created_s": 1.0})
        connection.execute(
            insert(versions),
            {
                "model": "digits", "version": version, "status": "approved", "bundle_sha256": f"{version}" * 64,
                "bundle_bytes": 1, "manifest": "", "card": "", "created_s": 1.0, "created_by": "x",
            },
        )  # fmt: skip


def _assignment(device: str, deployment: str) -> dict[str, Any]:
    return {
        "device_id": device, "model": "digits", "version": 2, "bundle_sha256": "2" * 64, "bundle_bytes": 1,
        "counter": 1, "bake_s": 0, "issued_s": 1.0, "expires_s": 2.0, "deployment_id": deployment,
    }  # fmt: skip


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def service(database: Database, clock: FixedClock) -> IngestService:
    return IngestService(database, clock)


def said(version: int, seq: int = 1, *, device: str = "dev1", epoch: str = EPOCH, **counts: Any) -> Received:
    body = Health(versions=[VersionHealth(model="digits", version=version, **counts)])
    return message(body, seq, device=device, epoch=epoch)


def scope(version: int, **more: Any) -> Scope:
    return Scope(model="digits", version=version, **({"since_s": 0.0} | more))


def test_counters_of_many_devices_become_one_row_per_version_profile_and_cohort(
    service: IngestService, database: Database
) -> None:
    service.commit(
        [
            said(2, requests=10, errors=1, crashes=1, latency=[(7, 9)]),
            said(2, 2, requests=5, over_budget=2, latency=[(7, 1), (9, 4)]),
            said(2, device="pi", requests=3, latency=[(40, 3)]),
            said(1, device="dev2", requests=100),
        ]
    )
    with database.read() as connection:
        assert version_health(connection, scope(2)) == {
            "x86-gateway": HealthSums(reports=2, requests=15, errors=1, over_budget=2, crashes=1),
            "raspberry-pi-4": HealthSums(reports=1, requests=3, errors=0, over_budget=0, crashes=0),
        }
        assert version_latency(connection, scope(2))["x86-gateway"] == [(7, 10), (9, 4)]
        cohorts = connection.execute(select(health_windows.c.version, health_windows.c.cohort)).all()
    assert sorted(cohorts) == [(1, ""), (2, "r-canary"), (2, "r-canary")]


def test_a_redelivered_or_restarted_message_counts_once(service: IngestService, database: Database) -> None:
    batch = [said(2, requests=10), said(2, 2, requests=10)]
    for _ in range(3):
        service.commit(batch)
    service.commit([said(2, epoch=LATER, requests=1)])
    service.commit(batch)
    with database.read() as connection:
        assert version_health(connection, scope(2))["x86-gateway"].requests == 21


def test_the_controls_are_the_other_versions_on_the_same_profiles_in_the_same_periods(
    service: IngestService, database: Database, clock: FixedClock
) -> None:
    service.commit([said(1, device="dev2", requests=1000)])
    clock.at += HEALTH_PERIOD_S
    service.commit([said(2, requests=7), said(1, 2, device="dev2", requests=50, latency=[(3, 50)])])
    service.commit([said(1, device="pi", requests=999)])
    with database.read() as connection:
        control = control_health(connection, scope(2))
        assert {profile: sums.requests for profile, sums in control.items()} == {"x86-gateway": 50}
        assert percentile_us(control_latency(connection, scope(2))["x86-gateway"], 95) == 1


def test_a_question_begins_with_the_period_of_its_moment(
    service: IngestService, database: Database, clock: FixedClock
) -> None:
    for number in range(3):
        clock.at = BASE_S + number * HEALTH_PERIOD_S + 10
        service.commit([said(2, number + 1, requests=10**number)])
    with database.read() as connection:
        second = BASE_S + HEALTH_PERIOD_S
        for since_s, until_s, wanted in (
            (second, None, 110),
            (second + 299.9, None, 110),
            (second - 0.1, None, 111),
            (0.0, second, 1),
            (0.0, second + 299.9, 1),
            (second, second + HEALTH_PERIOD_S, 10),
        ):
            sums = version_health(connection, scope(2, since_s=since_s, until_s=until_s))
            assert sums["x86-gateway"].requests == wanted


def test_a_cohort_is_asked_for_by_its_deployment(service: IngestService, database: Database) -> None:
    service.commit([said(2, requests=1), said(2, device="dev2", requests=10)])
    with database.read() as connection:
        assert version_health(connection, scope(2, cohort="r-canary"))["x86-gateway"].requests == 1
        assert version_health(connection, scope(2, cohort=""))["x86-gateway"].requests == 10


def test_a_shadow_counts_for_the_candidate_and_not_for_what_serves(service: IngestService, database: Database) -> None:
    shadow = ShadowHealth(version=3, compared=8, disagreed=2, skipped=1, latency=[(50, 8)], stopped="shadow.crashed")
    service.commit([said(2, requests=20, latency=[(5, 20)], shadow=shadow)])
    with database.read() as connection:
        (sums,) = shadow_health(connection, scope(3)).values()
        assert (sums.compared, sums.disagreed, sums.skipped, sums.stopped) == (8, 2, 1, 1)
        assert shadow_latency(connection, scope(3)) == {"x86-gateway": [(50, 8)]}
        assert not version_health(connection, scope(3))
        assert not version_latency(connection, scope(3))


def test_a_version_that_the_registry_does_not_know_is_left_out(service: IngestService, database: Database) -> None:
    foreign = ShadowHealth(version=98, compared=1)
    service.commit([said(99, requests=5), said(2, 2, requests=1, shadow=foreign)])
    with database.read() as connection:
        assert not version_health(connection, scope(99))
        assert not shadow_health(connection, scope(98))
        assert version_health(connection, scope(2))["x86-gateway"].requests == 1


@pytest.mark.parametrize(
    "impossible",
    [
        {"requests": 1, "errors": 2},
        {"requests": 3, "errors": 2, "over_budget": 2},
        {"requests": MAX_HEALTH_COUNT + 1},
        {"requests": -1},
        {"requests": 1, "latency": [(240, 1)]},
        {"requests": 1, "shadow": {"version": 3, "compared": 1, "disagreed": 2}},
    ],
    ids=str,
)
def test_counts_that_cannot_be_are_malformed(
    service: IngestService, database: Database, impossible: dict[str, Any]
) -> None:
    version = {"model": "digits", "version": 2, **impossible}
    service.commit([message(msgspec.msgpack.encode({"versions": [version]}), 1, kind="health")])
    with database.read() as connection:
        assert version_health(connection, scope(2)) == {}
        assert connection.scalar(select(device_status.c.malformed)) == 1


def test_a_batch_takes_the_same_number_of_statements_however_many_devices(
    service: IngestService, database: Database
) -> None:
    def statements(batch: list[Received]) -> int:
        seen: list[str] = []
        count = lambda *args: seen.append(args[2])  # noqa: E731
        event.listen(database.engine, "before_cursor_execute", count)
        service.commit(batch)
        event.remove(database.engine, "before_cursor_execute", count)
        return len(seen)

    first = [said(2, device=device, requests=1) for device in PROFILES]
    service.commit(first)
    one = statements([said(2, 2, requests=1)])
    assert statements([said(2, 3 if device == "dev1" else 2, device=device, requests=1) for device in PROFILES]) == one


def test_two_hubs_add_to_the_same_rows(database: Database) -> None:
    batches = [
        [said(version, seq, device=device, requests=1, latency=[(version, 1)]) for version, device in pairs]
        for seq in range(1, 31)
        for pairs in ([(1, "dev1"), (2, "pi")], [(2, "dev2")])
    ]
    services = [IngestService(database, FixedClock()) for _ in range(2)]

    def deliver(service: IngestService) -> None:
        for batch in batches:
            service.commit(batch)

    with ThreadPoolExecutor(2) as pool:
        for finished in [pool.submit(deliver, service) for service in services]:
            finished.result(60)
    with database.read() as connection:
        assert sum(sums.requests for sums in version_health(connection, scope(2)).values()) == 60
        assert version_health(connection, scope(1))["x86-gateway"].requests == 30


def test_old_periods_are_removed_and_younger_ones_stay(
    service: IngestService, database: Database, clock: FixedClock
) -> None:
    shadow = ShadowHealth(version=3, compared=1, latency=[(1, 1)])
    service.commit([said(2, requests=1, latency=[(1, 1)], shadow=shadow)])
    clock.at += 2 * 86_400
    service.commit([said(2, 2, requests=10, latency=[(1, 10)])])
    retention = HealthRetention(database, clock, 86_400.0)
    assert retention.prune() == 4
    assert retention.prune() == 0
    with database.read() as connection:
        assert version_health(connection, scope(2))["x86-gateway"].requests == 10
        assert connection.scalars(select(health_latency.c.count)).all() == [10]


versions_said = st.builds(
    VersionHealth,
    model=st.sampled_from(["digits", "faces"]),
    version=st.integers(1, 4),
    requests=st.integers(100, 10_000),
    errors=st.integers(0, 50),
    over_budget=st.integers(0, 50),
    crashes=st.integers(0, 3),
    latency=st.lists(st.tuples(st.integers(0, 239), st.integers(1, 99)), max_size=5),
    shadow=st.none() | st.builds(ShadowHealth, version=st.integers(1, 4), compared=st.integers(9, 99)),
)


@given(st.lists(st.builds(Said, st.sampled_from("ab"), st.sampled_from(["", "r-1"]), versions_said), max_size=30))
def test_adding_up_loses_nothing_whatever_the_order(spoken: list[Said]) -> None:
    known = {("digits", 1), ("digits", 2), ("faces", 3)}
    found = gather(spoken, known, 1_000_000.0)
    counted = [item.health for item in spoken if (item.health.model, item.health.version) in known]
    assert sum(int(row["requests"]) for row in found.windows) == sum(health.requests for health in counted)
    assert len({tuple(list(row.values())[:5]) for row in found.windows}) == len(found.windows)
    assert gather(spoken[::-1], known, 1_000_000.0) == found
