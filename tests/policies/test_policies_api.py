"""Policies over HTTP: who may, what a refusal names, what would happen, and one document for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.access.permissions import Role
from hub.registry.models import ModelChange
from tests.hub_kit import HubKit, running_hub

TRAIN = "when: [{alarm: {}}]\nbudget: {runs_per_week: 3}\n"
DEPLOY = "action: rollout\nrollout: {targets: {filter: all}, strategy: canary}\n"
TRIGGERS, POLICIES = "/v1/federated/triggers", "/v1/deploy-policies"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubKit]:
    with running_hub(tmp_path_factory.mktemp("hub")) as kit:
        for name in ("digits", "cats"):
            kit.hub.models.create(name, ModelChange(), "test")
        yield kit


def put(client: httpx.Client, path: str, text: str, **query: Any) -> httpx.Response:
    return client.put(path, content=text.encode(), params=query, headers={"Content-Type": "application/yaml"})


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_operators_set_viewers_look_and_scopes_hold(site: HubKit) -> None:
    viewer, operator = site.person(Role.VIEWER), site.person(Role.OPERATOR)
    for path, text in ((TRIGGERS, TRAIN), (POLICIES, DEPLOY)):
        assert put(viewer, f"{path}/digits", text).status_code == 403
        made = put(operator, f"{path}/digits", text)
        assert made.status_code == 200, made.text
        assert made.json()["changed_by"].startswith("operator")
        assert viewer.get(f"{path}/digits").json() == made.json()
        assert [one["model"] for one in viewer.get(path).json()["items"]] == ["digits"]
        scoped = site.person(Role.OPERATOR, ["cats"])
        assert code(put(scoped, f"{path}/digits", text)) == "access.scope"
        assert put(scoped, f"{path}/cats", text).status_code == 200
        assert [one["model"] for one in scoped.get(path).json()["items"]] == ["cats"]
        assert operator.delete(f"{path}/cats").status_code == 204
        assert code(operator.get(f"{path}/cats")) == "policy.unknown"
        assert code(put(operator, f"{path}/nothing", text)) == "model.unknown"


def test_a_refusal_names_the_field(site: HubKit) -> None:
    answer = put(site.admin, f"{TRIGGERS}/digits", "when: [{alarm: {severity: bad}}]").json()["error"]
    assert (answer["code"], answer["detail"]["field"]) == ("policy.invalid", "when[0].alarm.severity")
    answer = put(site.admin, f"{POLICIES}/digits", DEPLOY.replace("canary", "canry")).json()["error"]
    assert (answer["code"], answer["detail"]["field"]) == ("policy.invalid", "rollout.strategy")
    unmeasured = DEPLOY.replace("filter: all", "filter: 'nonsense=='")
    assert put(site.admin, f"{POLICIES}/digits", unmeasured).json()["error"]["code"] == "policy.invalid"


def test_a_dry_run_shows_every_condition_and_every_veto_and_takes_drafts(site: HubKit) -> None:
    viewer = site.person(Role.VIEWER)
    put(site.admin, f"{TRIGGERS}/digits", TRAIN)
    found = viewer.post(f"{TRIGGERS}/digits/test").json()
    assert (found["fires"], found["code"]) == (False, "federated.no_base")
    assert found["reason"].startswith("would not fire because no alarm of at least warning")
    assert [veto["name"] for veto in found["vetoes"]] == [
        "switched_off", "data_quality", "run_active", "candidate_waiting", "cooldown", "budget_runs",
    ]  # fmt: skip
    draft = viewer.post(f"{TRIGGERS}/cats/test", content=b"when: [{new_samples: 7}]").json()
    assert draft["clauses"][0]["checks"][0]["figures"] == {"wanted": 7, "new": 0, "seen": 0, "at_last_run": 0}
    assert code(viewer.get("/v1/federated/triggers-fired/1")) == "trigger.unknown"
    assert viewer.get("/v1/federated/triggers-fired").json() == {"items": [], "next": None}
    put(site.admin, f"{POLICIES}/digits", DEPLOY)
    assert code(viewer.get(f"{POLICIES}/digits/test")) == "version.unknown"
    assert viewer.get(f"{POLICIES}/digits/decisions").json()["items"] == []


def test_all_policies_are_one_document_that_is_taken_over_whole_or_not_at_all(site: HubKit) -> None:
    put(site.admin, f"{TRIGGERS}/digits", TRAIN)
    put(site.admin, f"{POLICIES}/digits", DEPLOY)
    whole = site.admin.get("/v1/policies").json()
    assert (list(whole["train"]), list(whole["deploy"])) == (["digits"], ["digits"])
    text = site.admin.get("/v1/policies").text

    def outcomes(answer: httpx.Response) -> dict[str, str]:
        assert answer.status_code == 200, answer.text
        return {f"{one['kind']}/{one['model']}": one["change"] for one in answer.json()["items"]}

    assert outcomes(put(site.admin, "/v1/policies", text)) == {"train/digits": "same", "deploy/digits": "same"}
    other = "train: {cats: {when: [{new_samples: 5}]}}\ndeploy: {digits: {action: nothing}}\n"
    wanted = {"train/cats": "added", "deploy/digits": "changed"}
    assert outcomes(put(site.admin, "/v1/policies", other, dry_run=True)) == wanted
    assert site.admin.get("/v1/policies").json() == whole, "a dry run changes nothing"
    bad = put(site.admin, "/v1/policies", other.replace("action: nothing", "action: some"))
    assert bad.json()["error"]["detail"]["field"] == "deploy.digits.action"
    unknown = put(site.admin, "/v1/policies", other.replace("digits", "nothing"))
    assert code(unknown) == "model.unknown"
    assert site.admin.get("/v1/policies").json() == whole, "and neither does what is refused"
    assert outcomes(put(site.admin, "/v1/policies", other, prune=True)) == {**wanted, "train/digits": "removed"}
    scoped = site.person(Role.OPERATOR, ["cats"])
    assert code(put(scoped, "/v1/policies", text)) == "access.scope"
    assert outcomes(put(scoped, "/v1/policies", "{}", prune=True)) == {"train/cats": "removed"}
    assert list(site.admin.get("/v1/policies").json()["deploy"]) == ["digits"]
    assert site.person(Role.VIEWER).put("/v1/policies", content=b"{}").status_code == 403


def test_an_alert_says_what_training_it_started(site: HubKit, tmp_path: Path) -> None:
    assert code(site.admin.get("/v1/alerts/99/firings")) == "alert.unknown"
