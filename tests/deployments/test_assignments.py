"""Assignments: counters only grow, the newest wins, what is still to be sent is never forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert

from hub.store import schema
from shared.errors import Conflict
from shared.wire.down import DesiredState
from tests.fleet_kit import LIFETIME_S, FleetKit


@pytest.fixture
def fleet(kit: FleetKit) -> FleetKit:
    """Three devices; versions 1 to 3 of digits and 1 of faces are approved."""
    for device in ("pi-1", "pi-2", "pi-3"):
        kit.add_device(device)
    kit.release("digits", 1, 2, 3)
    kit.release("faces", 1)
    return kit


def deploy(kit: FleetKit, version: int, where: str = "all", model: str = "digits") -> str:
    return kit.deployments.create(model, version, where, "", "olga").deployment_id


def pending(kit: FleetKit) -> list[str]:
    return [state.device_id for state in kit.desired.pending_publications(100)]


def test_every_device_has_its_own_counter_that_only_grows(fleet: FleetKit) -> None:
    deploy(fleet, 1, "id==pi-1")
    deploy(fleet, 2)
    deploy(fleet, 1, "id==pi-1", model="faces")
    deploy(fleet, 1)
    counters = {device: fleet.device(device)["assignment_counter"] for device in ("pi-1", "pi-2")}
    assert counters == {"pi-1": 4, "pi-2": 2}
    one, faces = fleet.assigned("pi-1"), fleet.assigned("pi-1", "faces")
    assert one is not None
    assert faces is not None
    assert (one["version"], one["counter"]) == (1, 4)
    assert (faces["version"], faces["counter"]) == (1, 3)


def test_a_newer_assignment_takes_over_from_one_that_is_stuck(fleet: FleetKit) -> None:
    first = deploy(fleet, 2)
    fleet.report("pi-1", version=1, state="downloading", counter=1)
    second = deploy(fleet, 3, "id==pi-1")
    row = fleet.assigned("pi-1")
    assert row is not None
    assert (row["version"], row["counter"], row["deployment_id"]) == (3, 2, second)
    assert fleet.deployments.get(first).superseded == 1


def test_a_device_with_many_models_keeps_one_assignment_for_each(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    deploy(fleet, 1, model="faces")
    state = fleet.desired.desired_state("pi-1")
    assert (state.revision, state.assignments) == (2, [b"signed:digits/1#1", b"signed:faces/1#2"])


def test_what_is_signed_is_what_was_assigned(fleet: FleetKit) -> None:
    deployment = deploy(fleet, 2)
    fleet.clock.now_s += 50
    fleet.desired.desired_state("pi-1")
    signed = fleet.signatures.signed[-1]
    row = fleet.versions.get("digits", 2)
    assert (signed.device_id, signed.model, signed.version) == ("pi-1", "digits", 2)
    assert (signed.target, signed.bundle_sha256, signed.bundle_bytes) == (
        "digits/2.bundle",
        row.bundle_sha256,
        row.bundle_bytes,
    )
    assert (signed.issued_s, signed.expires_s) == (fleet.clock.now_s - 50, fleet.clock.now_s - 50 + LIFETIME_S)
    assert (signed.bake_s, signed.deployment, signed.counter) == (60, deployment, 1)


def test_the_same_revision_says_the_same_thing(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    first = fleet.desired.desired_state("pi-1")
    fleet.clock.now_s += 100
    assert fleet.desired.desired_state("pi-1") == first
    assert fleet.signatures.signed[0] == fleet.signatures.signed[1]


def test_a_state_is_sent_until_it_was_marked_as_sent(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    assert pending(fleet) == pending(fleet) == ["pi-1", "pi-2", "pi-3"]
    states = fleet.desired.pending_publications(2)
    fleet.desired.mark_published(states)
    assert pending(fleet) == ["pi-3"]
    row = fleet.assigned("pi-1")
    assert row is not None
    assert row["published_s"] == fleet.clock.now_s


def test_what_changed_while_it_was_sent_stays_to_be_sent(fleet: FleetKit) -> None:
    deploy(fleet, 1, "id==pi-1")
    states = fleet.desired.pending_publications(10)
    deploy(fleet, 2, "id==pi-1")
    fleet.desired.mark_published(states)
    row = fleet.assigned("pi-1")
    assert row is not None
    assert row["published_s"] is None
    assert pending(fleet) == ["pi-1"]


def test_an_old_state_that_was_sent_after_a_newer_one_makes_the_device_pending_again(fleet: FleetKit) -> None:
    deploy(fleet, 1, "id==pi-1")
    slow = fleet.desired.pending_publications(10)
    deploy(fleet, 2, "id==pi-1")
    fleet.desired.mark_published(fleet.desired.pending_publications(10))
    assert pending(fleet) == []
    fleet.desired.mark_published(slow)
    assert pending(fleet) == ["pi-1"]


def test_after_the_broker_lost_everything_everything_is_sent_again(fleet: FleetKit) -> None:
    deploy(fleet, 1, "id==pi-1")
    fleet.desired.mark_published(fleet.desired.pending_publications(10))
    assert fleet.desired.republish_all() == 1
    assert pending(fleet) == ["pi-1"]


def test_a_revoked_device_is_sent_nothing(fleet: FleetKit) -> None:
    deploy(fleet, 1, "id==pi-1")
    with fleet.db.write() as connection:
        connection.execute(schema.devices.update().values(status="revoked"))
    assert pending(fleet) == []
    with pytest.raises(Exception, match="no active device") as caught:
        fleet.desired.desired_state("pi-1")
    assert getattr(caught.value, "code", "") == "device.not_found"


def test_a_device_without_assignments_has_an_empty_state_that_needs_no_signature(fleet: FleetKit) -> None:
    assert fleet.desired.desired_state("pi-1") == DesiredState(device_id="pi-1", revision=0)
    assert fleet.signatures.signed == []


# --- renewal ----------------------------------------------------------------------------------------------------------
def test_what_no_device_took_up_is_renewed_in_time(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    fleet.desired.mark_published(fleet.desired.pending_publications(10))
    fleet.clock.now_s += LIFETIME_S * 0.4
    assert fleet.assignments.reissue_expiring() == 0
    fleet.clock.now_s += LIFETIME_S * 0.2
    assert fleet.assignments.reissue_expiring() == 3
    row = fleet.assigned("pi-1")
    assert row is not None
    assert (row["counter"], row["expires_s"]) == (2, fleet.clock.now_s + LIFETIME_S)
    assert fleet.device("pi-1")["assignment_counter"] == 2
    assert pending(fleet) == ["pi-1", "pi-2", "pi-3"]
    assert fleet.assignments.reissue_expiring() == 0


@pytest.mark.parametrize(
    ("report", "renewed"),
    [
        ({"version": 1, "state": "committed", "counter": 1}, False),  # it serves it
        ({"version": None, "state": "downloading", "counter": 1}, False),  # it is busy with it
        ({"version": None, "state": "rolled_back", "counter": 1, "reason_code": "probe.golden"}, False),  # it refused
        ({"version": None, "state": "rolled_back", "counter": 1, "reason_code": "assignment.expired"}, True),
        ({"version": None, "state": "idle", "counter": 0}, True),  # it has not spoken about it
        ({"version": 1, "state": "probation", "counter": 0}, True),
    ],
)
def test_only_what_a_device_has_not_taken_up_is_renewed(
    fleet: FleetKit, report: dict[str, Any], renewed: bool
) -> None:
    deploy(fleet, 1, "id==pi-1")
    fleet.report("pi-1", **report)
    fleet.clock.now_s += LIFETIME_S
    assert fleet.assignments.reissue_expiring() == int(renewed)


@pytest.mark.parametrize(
    ("report", "renewed"),
    [
        ({"version": None, "state": "downloading", "counter": 1}, True),  # after a restart it checks again
        ({"version": 1, "state": "probation", "counter": 1}, True),
        ({"version": None, "state": "idle", "counter": 0}, True),  # it has not spoken about it
        ({"version": 1, "state": "committed", "counter": 1}, False),  # it serves it
        ({"version": None, "state": "rolled_back", "counter": 1, "reason_code": "probe.golden"}, False),  # it refused
        ({"version": None, "state": "rolling_back", "counter": 1}, False),
        ({"version": None, "state": "rolled_back", "counter": 1, "reason_code": "assignment.expired"}, True),
    ],
)
def test_a_new_signing_key_renews_what_a_device_may_still_check(
    fleet: FleetKit, report: dict[str, Any], renewed: bool
) -> None:
    deploy(fleet, 1, "id==pi-1")
    fleet.report("pi-1", **report)
    with fleet.db.write() as connection:
        assert fleet.assignments.renew_pending(connection, fleet.clock.now()) == int(renewed)
    assert pending(fleet) == ["pi-1"]
    row = fleet.assigned("pi-1")
    assert row is not None
    assert row["counter"] == 1 + int(renewed)


def test_a_withdrawn_version_is_not_renewed(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    fleet.versions.withdraw("digits", 1, "", "olga")
    fleet.clock.now_s += LIFETIME_S
    assert fleet.assignments.reissue_expiring() == 0


def test_a_device_that_enrols_anew_gets_fresh_assignments(fleet: FleetKit) -> None:
    deploy(fleet, 1)
    fleet.report("pi-1", version=1, state="committed", counter=1)
    fleet.clock.now_s += LIFETIME_S * 5
    fleet.assignments.start_anew("pi-1")
    row, other = fleet.assigned("pi-1"), fleet.assigned("pi-2")
    assert row is not None
    assert other is not None
    assert (row["counter"], row["issued_s"]) == (2, fleet.clock.now_s)
    assert other["counter"] == 1


# --- entitlement ------------------------------------------------------------------------------------------------------
def test_a_device_may_fetch_what_it_is_assigned_to_serves_or_could_roll_back_to(fleet: FleetKit) -> None:
    digests = {version: fleet.versions.get("digits", version).bundle_sha256 for version in (1, 2, 3)}

    def entitled(device: str) -> list[int]:
        return [version for version in digests if fleet.assignments.is_entitled(device, digests[version])]

    assert entitled("pi-1") == []
    deploy(fleet, 3, "id==pi-1")
    assert entitled("pi-1") == [3]
    fleet.report("pi-1", version=2, previous_version=1, state="committed")
    assert entitled("pi-1") == [1, 2, 3]
    assert entitled("pi-2") == []


def test_ids_can_be_assigned_in_steps_within_one_deployment(fleet: FleetKit) -> None:
    for step in (["pi-1"], ["pi-2", "pi-3", "nobody"]):
        with fleet.db.write() as connection:
            assert fleet.assignments.assign_ids(connection, step, "digits", 1, "d-1") == len(set(step) - {"nobody"})
    assert [fleet.device(device)["assignment_counter"] for device in ("pi-1", "pi-2", "pi-3")] == [1, 1, 1]


def test_only_approved_versions_with_their_bundle_can_be_assigned(fleet: FleetKit) -> None:
    fleet.register("digits", 9)
    with pytest.raises(Conflict) as caught, fleet.db.write() as connection:
        fleet.assignments.assign_ids(connection, ["pi-1"], "digits", 9, "d-1")
    assert caught.value.code == "deployment.not_approved"


def test_assigning_ten_thousand_devices_takes_a_handful_of_statements(fleet: FleetKit) -> None:
    rows = [
        {"device_id": f"n-{n}", "status": "active", "profile": "raspberry-pi-4", "hardware_id": "", "enrolled_s": 0.0}
        for n in range(10_000)
    ]
    with fleet.db.write() as connection:
        connection.execute(insert(schema.devices), rows)
    statements: list[str] = []
    event.listen(fleet.db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    plan = fleet.deployments.create("digits", 1, "id==n-*", "", "olga")
    assert plan.devices == 10_000
    assert len(statements) < 30
    statements.clear()
    assert len(fleet.desired.pending_publications(500)) == 500
    assert len(statements) <= 4
