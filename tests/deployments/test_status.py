"""The fleet in numbers."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from hub.status import FleetStatus, FleetSummary
from hub.store import schema
from hub.store.status import InstallFailure, ProfileCounts
from tests.fleet_kit import FleetKit


def summary(kit: FleetKit) -> FleetSummary:
    return FleetStatus(kit.db, kit.clock, offline_after_s=180.0).summary()


def seen(kit: FleetKit, device_id: str, ago_s: float) -> None:
    with kit.db.write() as connection:
        connection.execute(
            insert(schema.device_status).values(
                device_id=device_id, last_seen_s=kit.clock.now() - ago_s, epoch="0" * 16, watermark=1
            )
        )


def test_an_empty_fleet_has_a_status(kit: FleetKit) -> None:
    found = summary(kit)
    assert (found.devices.total, found.devices.online, found.requests) == (0, 0, 0)
    assert (found.profiles, found.versions, found.failures, found.deployments) == ([], [], [], [])


def test_every_device_is_counted_once(kit: FleetKit) -> None:
    for device, ago_s in (("a", 10.0), ("b", 179.0), ("c", 181.0), ("d", None), ("e", 5.0)):
        kit.add_device(
            device,
            "x86-gateway" if device == "a" else "raspberry-pi-4",
            status="revoked" if device == "e" else "active",
        )
        if ago_s is not None:
            seen(kit, device, ago_s)
    kit.release("digits", 1)
    kit.deployments.create("digits", 1, "id==a", "", "olga")
    found = summary(kit)
    devices = found.devices
    assert (devices.total, devices.active, devices.revoked) == (5, 4, 1)
    assert (devices.online, devices.offline, devices.never_seen, devices.unsent) == (2, 1, 1, 1)
    assert found.profiles == [
        ProfileCounts(profile="raspberry-pi-4", devices=3, online=1),
        ProfileCounts(profile="x86-gateway", devices=1, online=1),
    ]
    assert len(found.deployments) == 1


def test_versions_requests_and_failures_come_from_the_devices_own_word(kit: FleetKit) -> None:
    for device in ("a", "b", "c", "gone"):
        kit.add_device(device, status="revoked" if device == "gone" else "active")
    kit.report("a", version=2, state="committed", requests=100, errors=1, latency_p99_us=90)
    kit.report("b", version=2, state="probing", requests=50, errors=2, latency_p99_us=300)
    kit.report("c", version=1, state="rolled_back", target_version=2, reason_code="probe.golden", reason="Differs.")
    kit.report("gone", version=2, state="rolled_back", requests=10**6, reason_code="probe.golden")
    found = summary(kit)
    assert (found.requests, found.errors) == (150, 3)
    assert [(v.version, v.devices, v.installing, v.requests, v.latency_p99_us) for v in found.versions] == [
        (2, 2, 1, 150, 300),
        (1, 1, 0, 0, 0),
    ]
    assert found.failures == [
        InstallFailure(
            model="digits", version=2, reason_code="probe.golden", devices=1, device_id="c", reason="Differs."
        )
    ]


@pytest.mark.parametrize("code", ["rollback.requested", "install.cancelled", "install.superseded"])
def test_what_somebody_wanted_is_no_failed_install(kit: FleetKit, code: str) -> None:
    kit.add_device("a", status="active")
    kit.report("a", version=1, state="rolled_back", target_version=2, reason_code=code, reason="Asked.")
    assert summary(kit).failures == []
