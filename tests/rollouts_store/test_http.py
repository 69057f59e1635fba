"""Rollouts over HTTP: who may do what, one shape of errors, and a cheap look at what changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hub.access.permissions import Role
from tests.registry_kit import Flow, released_hub

DEFINITION = """
model: digits
version: 1
targets: {filter: all}
gates: []
each_group: {success_percent: 90, error_percent: 5, min_sample: 5, observe_s: 1h}
groups:
- {name: canary, percent: 50}
- {name: rest, percent: 100}
"""


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    with released_hub(tmp_path_factory.mktemp("hub")) as flow:
        flow.create_model("digits")
        flow.digits(1).raise_for_status()
        flow.gate("digits", 1, flow.put_dataset())
        flow.approve("digits", 1)
        for number in range(4):
            flow.kit.enrol(f"pi-{number}")
        yield flow


def create(client: httpx.Client, text: str = DEFINITION, **query: Any) -> httpx.Response:
    return client.post("/v1/rollouts", content=text.encode(), params=query)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_a_rollout_from_its_plan_to_its_end(flow: Flow) -> None:
    operator, viewer = flow.kit.person(Role.OPERATOR), flow.kit.person(Role.VIEWER)
    dry = create(operator, dry_run=True)
    assert (dry.status_code, dry.json()["rollout_id"]) == (200, None)
    assert [wave["name"] for wave in dry.json()["forecast"]["waves"]] == ["canary", "rest"]
    made = create(operator)
    assert made.status_code == 201, made.text
    rollout = made.json()["rollout_id"]
    flow.kit.hub.rollout_engine.run()
    seen = viewer.get(f"/v1/rollouts/{rollout}")
    assert seen.json()["status"] == "running"
    assert sum(group["counts"]["assigned"] for group in seen.json()["groups"]) >= 1
    again = viewer.get(f"/v1/rollouts/{rollout}", headers={"If-None-Match": seen.headers["ETag"]})
    assert again.status_code == 304
    paused = operator.post(f"/v1/rollouts/{rollout}/pause", json={"reason": "lunch"})
    assert paused.json()["status"] == "paused"
    changed = viewer.get(f"/v1/rollouts/{rollout}", headers={"If-None-Match": seen.headers["ETag"]})
    assert changed.status_code == 200
    assert code(operator.post(f"/v1/rollouts/{rollout}/finish", json={})) == "rollout.state"
    listed = viewer.get("/v1/rollouts", params={"active": True}).json()["items"]
    assert [row["rollout_id"] for row in listed] == [rollout]
    devices = viewer.get(f"/v1/rollouts/{rollout}/devices", params={"limit": 2}).json()
    assert len(devices["items"]) == 2
    assert devices["next"]
    events = viewer.get(f"/v1/rollouts/{rollout}/events").json()["items"]
    assert events[0]["kind"] == "rollout_paused"
    operator.post(f"/v1/rollouts/{rollout}/abort", json={}).raise_for_status()
    flow.kit.hub.rollout_engine.run()
    flow.kit.hub.rollout_engine.run()
    assert viewer.get(f"/v1/rollouts/{rollout}").json()["status"] == "aborted"
    actions = [row["action"] for row in flow.admin.get("/v1/audit").json()["items"]]
    assert {"rollout.create", "rollout.paused", "rollout.aborting"} <= set(actions)


def test_viewers_look_and_operators_act(flow: Flow) -> None:
    viewer, scoped = flow.kit.person(Role.VIEWER), flow.kit.person(Role.OPERATOR, ["faces"])
    assert code(create(viewer)) == "access.denied"
    assert code(create(scoped)) == "access.scope"


def test_what_is_wrong_with_a_definition_is_said_with_its_field(flow: Flow) -> None:
    answer = create(flow.admin, DEFINITION.replace("success_percent: 90, ", ""))
    assert (answer.status_code, code(answer)) == (400, "rollout.invalid")
    assert "success_percent" in answer.json()["error"]["message"]
    assert code(create(flow.admin, "model: digits\nmodel: faces")) == "yaml.malformed"
    assert code(flow.admin.get("/v1/rollouts/r-none")) == "rollout.unknown"
    assert code(create(flow.admin, json.dumps({"model": "nope", "version": 1}))) == "rollout.invalid"


def test_a_device_is_explained(flow: Flow) -> None:
    made = create(flow.admin).json()["rollout_id"]
    flow.kit.hub.rollout_engine.run()
    devices = flow.admin.get(f"/v1/rollouts/{made}/devices").json()["items"]
    given = next(row["device_id"] for row in devices if row["state"] == "assigned")
    (model,) = flow.admin.get(f"/v1/devices/{given}/explain").json()["models"]
    assert model["wanted"] == 1
    assert made in model["because"]["message"]
    assert model["waits_for"]["code"] in ("explain.unsent", "explain.not_taken_up")
    waiting = next((row["device_id"] for row in devices if row["state"] == "waiting"), None)
    if waiting is not None:
        (model,) = flow.admin.get(f"/v1/devices/{waiting}/explain", params={"model": "digits"}).json()["models"]
        assert "comes first" in model["waits_for"]["message"]
    assert code(flow.admin.get("/v1/devices/nobody/explain")) == "device.not_found"
