"""An approved version is rolled out by its model's policy once, never without signatures, and never backwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.audit.log import AuditLog
from hub.rollouts.approval_decision import Candidate, Running, choose
from hub.rollouts.approval_policy import DeployPolicy, deploy_policy_of, from_store, stored_deploy_policy
from hub.rollouts.on_approval import ACTOR, DeployPolicies
from hub.store import registry
from hub.store.audit import AuditFilter
from hub.store.deploy_decisions import DecisionRow
from hub.store.page import PageRequest
from hub.store.registry import GateRow, Status
from shared.bundle.manifest import Lineage
from shared.errors import InvalidInput, NotFound
from tests.rollouts_store.kit import RolloutKit

PAGE = PageRequest(limit=50)
TEMPLATE: dict[str, Any] = {"targets": {"filter": "all"}, "strategy": "canary"}
POLICY: dict[str, Any] = {"action": "rollout", "rollout": TEMPLATE}
CANDIDATE = Candidate(version=4, status="approved", available=True, run="f-0123456789ab", gate_passed=True)


# --- the decision ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("policy", "changes", "running", "code"),
    [
        (POLICY, {}, {}, ""),
        (POLICY, {}, {"served": 3, "rolling_out": 3}, ""),
        ({}, {}, {}, "nothing_wanted"),
        ({"action": "nothing", "of": "any"}, {}, {}, "nothing_wanted"),
        (POLICY, {"status": "gated"}, {}, "not_approved"),
        (POLICY, {"status": "withdrawn"}, {}, "not_approved"),
        (POLICY, {"gate_passed": False}, {}, "gate_not_passed"),
        (POLICY, {"gate_passed": None}, {}, "gate_not_passed"),
        (POLICY, {"available": False}, {}, "collected"),
        (POLICY, {"run": ""}, {}, "not_of_a_run"),
        ({**POLICY, "of": "any"}, {"run": ""}, {}, ""),
        (POLICY, {}, {"served": 4}, "not_newer"),
        (POLICY, {}, {"served": 5}, "not_newer"),
        (POLICY, {}, {"rolling_out": 4}, "not_newer"),
    ],
)
def test_each_objection_keeps_a_version_from_being_deployed(
    policy: dict[str, Any], changes: dict[str, Any], running: dict[str, int], code: str
) -> None:
    candidate = Candidate(**{**{name: getattr(CANDIDATE, name) for name in CANDIDATE.__struct_fields__}, **changes})
    choice = choose(deploy_policy_of(policy, "digits"), candidate, Running(**running))
    assert (choice.deploys, choice.code) == (code == "", code)
    assert choice.reason.startswith("would deploy" if choice.deploys else "would not deploy")


def test_nothing_is_the_default() -> None:
    assert DeployPolicy().action == "nothing"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"action": "deploy"}, "action"),
        ({"action": "rollout"}, "rollout.targets"),
        ({"action": "rollout", "rollout": {**TEMPLATE, "strategy": "canry"}}, "rollout.strategy"),
        ({"action": "rollout", "rollout": {**TEMPLATE, "strategie": "canary"}}, "rollout.strategie"),
        ({"action": "rollout", "rollout": {**TEMPLATE, "version": 3}}, "rollout.version"),
        ({"action": "rollout", "rollout": {**TEMPLATE, "start_at": "2027-01-01T00:00:00Z"}}, "rollout.start_at"),
        ({"off": "any"}, "off"),
    ],
)
def test_a_template_is_checked_when_the_policy_is_made(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        deploy_policy_of(values, "digits")
    assert (caught.value.code, caught.value.detail["field"]) == ("policy.invalid", field)


def test_a_policy_is_kept_as_it_was_said() -> None:
    policy = deploy_policy_of({**POLICY, "of": "any", "note": "by itself"}, "digits")
    assert from_store(stored_deploy_policy(policy)) == policy
    assert json.loads(policy.definition("digits", 4))["version"] == 4


# --- with a database ------------------------------------------------------------------------------------------------
class Site(RolloutKit):
    """Rollouts with policies."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.policies = DeployPolicies(self.db, self.clock, self.audit, self.rollouts)

    def candidate(self, version: int, run: str = "f-0123456789ab", *, passed: bool = True) -> None:
        """A registered version with a gate run."""
        self.register("digits", version, lineage=Lineage(training_run=run))
        self.gate(version, passed=passed)

    def gate(self, version: int, *, passed: bool = True) -> None:
        row = GateRow(
            gate_id=0, model="digits", version=version, dataset_sha256="0" * 64, dataset_name="d", passed=passed,
            metrics={}, checks=[], at_s=1.0, by="dana",
        )  # fmt: skip
        with self.db.write() as connection:
            registry.insert_gate_result(connection, row)

    def decisions(self) -> dict[int, DecisionRow]:
        return {row.version: row for row in self.policies.decided("digits", PAGE)}

    def outcomes(self) -> dict[int, str]:
        return {version: row.code or row.state for version, row in self.decisions().items()}

    def rolled_out(self) -> list[int]:
        return sorted(row.version for row in self.rollouts.page(PAGE, "digits"))


@contextmanager
def ready(folder: Path, url: str) -> Iterator[Site]:
    site = Site(folder, url)
    try:
        site.fleet(5)
        site.release("digits", 1)
        site.serve(1)
        yield site
    finally:
        site.close()


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    with ready(tmp_path, sqlite_url) as site:
        yield site


@pytest.fixture
def any_site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    with ready(tmp_path, database_url) as site:
        yield site


def test_a_version_is_rolled_out_when_it_is_approved_and_not_before(any_site: Site) -> None:
    any_site.policies.set("digits", POLICY, "olga")
    any_site.candidate(2)
    assert any_site.policies.run() == 0
    assert any_site.policies.test("digits").choice.code == "not_approved"
    any_site.approve("digits", 2)
    assert any_site.policies.test("digits", 2).choice.deploys
    assert any_site.policies.run() == 1
    assert (any_site.rolled_out(), any_site.outcomes()) == ([2], {2: "deployed", 1: "approved_before"})
    decision = any_site.decisions()[2]
    assert any_site.policies.of_rollout(decision.rollout_id) == decision
    assert decision.evidence["run"] == "f-0123456789ab"
    assert any_site.rollouts.page(PAGE, "digits")[0].created_by == ACTOR
    for _ in range(3):
        assert any_site.policies.run() == 0, "once is enough"
    (entry,) = any_site.audit.list(AuditFilter(action="deploy_policy.decide"), PAGE)
    assert json.loads(entry.detail)["rollout_id"] == decision.rollout_id


def test_three_versions_in_a_row(site: Site) -> None:
    site.policies.set("digits", POLICY, "olga")
    for version in (2, 3, 4):
        site.candidate(version)
        site.approve("digits", version)
        assert site.policies.run() == 1
    assert site.rolled_out() == [2, 3, 4]


def test_without_a_policy_or_with_nothing_wanted_nothing_happens(site: Site) -> None:
    site.candidate(2)
    site.approve("digits", 2)
    assert site.policies.run() == 0
    site.policies.set("digits", {}, "olga")
    site.candidate(3)
    site.approve("digits", 3)
    assert site.policies.run() == 0
    assert (site.rolled_out(), site.outcomes()[3]) == ([], "nothing_wanted")


def test_a_status_without_signatures_is_no_approval(site: Site) -> None:
    """Somebody who can write the registry's row still cannot have a version rolled out."""
    site.policies.set("digits", POLICY, "olga")
    site.candidate(2)
    site.set_status("digits", 2, Status.GATED, Status.APPROVED)
    assert site.policies.run() == 0
    assert (site.rolled_out(), site.outcomes()[2]) == ([], "deployment.not_approved")


def test_failed_gates_older_versions_and_those_of_no_run_are_not_deployed(any_site: Site) -> None:
    any_site.policies.set("digits", POLICY, "olga")
    any_site.candidate(5)
    any_site.approve("digits", 5)
    assert any_site.policies.run() == 1
    any_site.candidate(4)
    any_site.approve("digits", 4)
    any_site.candidate(6)
    any_site.approve("digits", 6)
    any_site.gate(6, passed=False)  # an approved version keeps its status whatever a later run says
    any_site.candidate(7, run="")
    any_site.approve("digits", 7)
    assert any_site.policies.run() == 0
    assert {v: code for v, code in any_site.outcomes().items() if v in (4, 6, 7)} == {
        4: "not_newer",
        6: "gate_not_passed",
        7: "not_of_a_run",
    }


def test_of_two_that_are_approved_together_the_newer_is_deployed(site: Site) -> None:
    site.policies.set("digits", POLICY, "olga")
    for version in (2, 3):
        site.candidate(version)
        site.approve("digits", version)
    assert site.policies.run() == 1
    assert (site.rolled_out(), site.outcomes()[2]) == ([3], "not_newer")


def test_what_waits_for_devices_is_tried_again_and_keeps_the_older_ones_waiting(site: Site) -> None:
    site.policies.set("digits", {**POLICY, "rollout": {**TEMPLATE, "targets": {"filter": "tag.site==north"}}}, "olga")
    for version in (2, 3):
        site.candidate(version)
        site.approve("digits", version)
    assert site.policies.run() == 0
    assert site.outcomes() == {1: "approved_before"}
    site.fleet(2, prefix="new", site="north")
    assert site.policies.run() == 1
    assert site.rolled_out() == [3]


def test_what_was_refused_is_decided_again_when_the_policy_changes(site: Site) -> None:
    site.policies.set("digits", {**POLICY, "rollout": {**TEMPLATE, "targets": {"group": "nobody"}}}, "olga")
    site.candidate(2)
    site.approve("digits", 2)
    assert site.policies.run() == 0
    assert site.outcomes()[2] == "group.not_found"
    site.policies.set("digits", POLICY, "olga")
    assert site.policies.run() == 1


def test_a_policy_does_not_reach_back(site: Site) -> None:
    site.candidate(2)
    site.approve("digits", 2)
    site.policies.set("digits", POLICY, "olga")
    assert site.policies.run() == 0
    site.policies.remove("digits", "olga")
    site.candidate(3)
    site.approve("digits", 3)
    site.policies.set("digits", POLICY, "olga")
    assert site.policies.run() == 0
    assert site.rolled_out() == []
    with pytest.raises(NotFound):
        site.policies.set("nothing", POLICY, "olga")


def test_a_crash_between_rollout_and_record_leaves_neither(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.policies.set("digits", POLICY, "olga")
    site.candidate(2)
    site.approve("digits", 2)

    class Killed(BaseException):
        pass

    def die(*_args: Any, **_more: Any) -> Any:
        raise Killed

    append: Callable[..., Any] = AuditLog.append
    with monkeypatch.context() as patch:
        patch.setattr(
            AuditLog,
            "append",
            lambda *a, **k: die() if a[3] == "deploy_policy.decide" else append(*a, **k),
        )
        with pytest.raises(Killed):
            site.policies.run()
    assert (site.rolled_out(), 2 in site.outcomes()) == ([], False)
    assert site.policies.run() == 1
    assert site.rolled_out() == [2]


def test_two_hubs_that_look_at_once_make_one_rollout(any_site: Site) -> None:
    any_site.policies.set("digits", POLICY, "olga")
    any_site.candidate(2)
    any_site.approve("digits", 2)
    other = DeployPolicies(any_site.db, any_site.clock, any_site.audit, any_site.rollouts)
    create = any_site.rollouts.create

    def late(text: bytes, actor: str, within: Any) -> Any:
        """The other hub is quicker by the whole of its turn."""
        any_site.rollouts.create = create  # type: ignore[method-assign]
        assert other.run() == 1
        return create(text, actor, within)

    any_site.rollouts.create = late  # type: ignore[method-assign, assignment]
    assert any_site.policies.run() == 0
    assert (any_site.rolled_out(), any_site.outcomes()[2]) == ([2], "deployed")
