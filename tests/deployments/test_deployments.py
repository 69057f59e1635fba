"""Deployments: only what devices would accept, only to devices that can run it, and an honest count of how it goes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from hub.store import schema
from hub.store.audit import AuditFilter
from hub.store.page import PageRequest
from shared.bundle.manifest import Requirements
from shared.errors import SkerryError
from shared.limits import MAX_ASSIGNMENTS_PER_DEVICE_COUNT
from tests.fleet_kit import FleetKit


@pytest.fixture
def fleet(kit: FleetKit) -> FleetKit:
    for device in ("pi-1", "pi-2", "pi-3", "pi-4", "pi-5"):
        kit.add_device(device)
    kit.release("digits", 1, 2)
    return kit


def code_of(kit: FleetKit, version: int = 1, where: str = "all", model: str = "digits") -> str:
    with pytest.raises(SkerryError) as caught:
        kit.deployments.create(model, version, where, "", "olga")
    return caught.value.code


def test_a_version_that_is_not_approved_is_not_deployed(fleet: FleetKit) -> None:
    fleet.register("digits", 3)
    assert code_of(fleet, 3) == "deployment.not_approved"
    assert code_of(fleet, 9) == "version.unknown"


def test_the_registrys_word_alone_does_not_deploy(fleet: FleetKit) -> None:
    """Approved in the database, but no release with enough signatures: devices would refuse it."""
    del fleet.approvals.releases["digits", 2]
    assert code_of(fleet, 2) == "deployment.not_approved"


def test_signatures_alone_do_not_deploy_what_was_withdrawn(fleet: FleetKit) -> None:
    fleet.versions.withdraw("digits", 2, "", "olga")
    assert code_of(fleet, 2) == "deployment.withdrawn"


def test_a_release_that_names_other_bytes_than_the_registry_is_not_deployed(fleet: FleetKit) -> None:
    fleet.approvals.releases["digits", 2] = ("ab" * 32, 7)
    assert code_of(fleet, 2) == "deployment.digest_mismatch"


def test_a_filter_that_chooses_nobody_is_an_error_and_leaves_nothing(fleet: FleetKit) -> None:
    assert code_of(fleet, 1, "id==nobody") == "deployment.no_devices"
    assert code_of(fleet, 1, "id=nobody") == "filter.syntax"
    assert fleet.deployments.page(PageRequest(limit=5)) == []


def test_a_dry_run_says_what_would_happen_and_does_nothing(fleet: FleetKit) -> None:
    plan = fleet.deployments.create("digits", 1, "id=in=(pi-1,pi-2)", "", "olga", dry_run=True)
    assert (plan.devices, plan.deployment_id) == (2, "")
    assert fleet.assigned("pi-1") is None
    assert fleet.woken == 0
    assert fleet.deployments.page(PageRequest(limit=5)) == []


def test_devices_that_cannot_run_it_are_skipped_and_named_with_a_reason(fleet: FleetKit) -> None:
    fleet.add_device("odd-1", profile="home-made")
    fleet.add_device("path-1", profile="/etc/passwd")
    fleet.add_device("gone-1", status="revoked")
    fleet.add_device("zero-1", profile="raspberry-pi-zero-2w")
    fleet.release("digits", 3, requirements=Requirements(memory_bytes=200 * 1024**2))
    plan = fleet.deployments.create("digits", 3, "id==*", "", "olga")
    assert {(skip.device_id, skip.reason_code) for skip in plan.examples} == {
        ("gone-1", "device.revoked"),
        ("odd-1", "profile.unknown"),
        ("path-1", "profile.unknown"),
        ("zero-1", "profile.memory"),
    }
    assert plan.skipped == {"device.revoked": 1, "profile.unknown": 2, "profile.memory": 1}
    assert plan.devices == 5
    assert fleet.assigned("zero-1") is None
    assert fleet.deployments.get(plan.deployment_id).deployment.skipped == plan.skipped


def test_all_means_active_devices_only(fleet: FleetKit) -> None:
    fleet.add_device("gone-1", status="revoked")
    plan = fleet.deployments.create("digits", 1, "all", "", "olga")
    assert (plan.devices, plan.skipped) == (5, {})


def test_a_device_has_a_bounded_number_of_models(fleet: FleetKit) -> None:
    with fleet.db.write() as connection:
        for n in range(MAX_ASSIGNMENTS_PER_DEVICE_COUNT):
            values: dict[str, Any] = {"version": 1, "bundle_sha256": "0" * 64, "bundle_bytes": 1, "counter": 0}
            values |= {"bake_s": 0, "issued_s": 0.0, "expires_s": 0.0, "deployment_id": "d-0"}
            connection.execute(insert(schema.assignments).values(device_id="pi-1", model=f"m{n}", **values))
    plan = fleet.deployments.create("digits", 1, "all", "", "olga")
    assert plan.skipped == {"deployment.too_many_models": 1}
    assert fleet.assigned("pi-1") is None


def test_a_deployment_is_audited_and_rings_the_bell(fleet: FleetKit) -> None:
    plan = fleet.deployments.create("digits", 1, "tag.x!=y", "because", "olga")
    entry = fleet.audit.list(AuditFilter(action="deployment.create"), PageRequest(limit=1))[0]
    assert (entry.actor, entry.subject) == ("olga", plan.deployment_id)
    assert '"note":"because"' in entry.detail
    assert fleet.woken == 1


def test_progress_is_counted_by_the_devices_own_word(fleet: FleetKit) -> None:
    fleet.report("pi-3", version=1, state="committed", counter=0)
    plan = fleet.deployments.create("digits", 2, "all", "", "olga")
    fleet.desired.mark_published(fleet.desired.pending_publications(2))
    fleet.report("pi-3", state="probing", counter=1, target_version=2)
    fleet.report("pi-4", version=2, state="committed", counter=1)
    fleet.report(
        "pi-5",
        version=1,
        state="rolled_back",
        counter=1,
        target_version=2,
        reason_code="probe.golden_mismatch",
        reason="The golden outputs differ.",
    )
    detail = fleet.deployments.get(plan.deployment_id)
    assert detail.progress == {"pending": 0, "sent": 2, "installing": 1, "succeeded": 1, "failed": 1}
    assert detail.states == {"probing": 1}
    assert [(f.reason_code, f.devices, f.device_id) for f in detail.failures] == [
        ("probe.golden_mismatch", 1, "pi-5")
    ]
    wanted = fleet.deployments.devices(plan.deployment_id, PageRequest(limit=10), "failed")
    assert [(row.device_id, row.running_version) for row in wanted] == [("pi-5", 1)]


@pytest.mark.parametrize(
    ("report", "progress"),
    [
        ({"version": 2, "state": "probation", "counter": 1}, "installing"),
        ({"version": 2, "state": "committed", "counter": 0}, "succeeded"),
        ({"version": 2, "state": "committed", "counter": 1, "bundle_sha256": "0" * 64}, "failed"),
        ({"version": 1, "state": "committed", "counter": 1}, "failed"),
        ({"version": 1, "state": "inconsistent", "counter": 1}, "failed"),
        ({"version": 1, "state": "rolled_back", "counter": 0}, "pending"),
        ({"version": None, "state": "assigned", "counter": 1}, "installing"),
    ],
)
def test_one_devices_progress(fleet: FleetKit, report: dict[str, Any], progress: str) -> None:
    plan = fleet.deployments.create("digits", 2, "id==pi-1", "", "olga")
    fleet.report("pi-1", **report)
    assert fleet.deployments.get(plan.deployment_id).progress[progress] == 1


def test_failures_are_grouped_with_a_few_examples_of_each(fleet: FleetKit) -> None:
    for n in range(20):
        fleet.add_device(f"n-{n:02}")
    plan = fleet.deployments.create("digits", 2, "id==n-*", "", "olga")
    for n in range(20):
        code = "download.failed" if n < 7 else "probe.latency"
        fleet.report(f"n-{n:02}", state="rolled_back", counter=1, reason_code=code, reason=code)
    failures = fleet.deployments.get(plan.deployment_id).failures
    assert [(f.reason_code, f.devices) for f in failures] == [("probe.latency", 13)] * 5 + [("download.failed", 7)] * 5


def test_cancelling_takes_it_back_from_those_who_do_not_serve_it_yet(fleet: FleetKit) -> None:
    plan = fleet.deployments.create("digits", 2, "all", "", "olga")
    fleet.report("pi-1", version=2, state="committed", counter=1)
    detail = fleet.deployments.cancel(plan.deployment_id, "wrong version", "olga")
    assert detail.deployment.cancelled_s == fleet.clock.now_s
    assert (detail.progress["succeeded"], detail.superseded) == (1, 4)
    assert fleet.assigned("pi-2") is None
    assert fleet.desired.desired_state("pi-2").revision == 2
    assert fleet.device("pi-1")["desired_revision"] == 1
    again = fleet.deployments.cancel(plan.deployment_id, "again", "olga")
    assert again.deployment == detail.deployment


def test_deployments_are_listed_newest_first_and_page_by_page(fleet: FleetKit) -> None:
    made = []
    for _ in range(5):
        made.append(fleet.deployments.create("digits", 1, "id==pi-1", "", "olga").deployment_id)
        fleet.clock.now_s += 1
    first = fleet.deployments.page(PageRequest(limit=2))
    assert [row.deployment_id for row in first[:2]] == made[:2:-1]
    rest = fleet.deployments.page(PageRequest(limit=5, after=(first[1].created_s, first[1].deployment_id)))
    assert [row.deployment_id for row in rest] == made[2::-1]
    assert fleet.deployments.page(PageRequest(limit=5), model="faces") == []
    assert fleet.deployments.page(PageRequest(limit=5), only=frozenset({"faces"})) == []
