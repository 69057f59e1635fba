"""The way of a version over the real API: registered, gated, approved, deployed, fetched by the device it is for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hub.access.permissions import Role
from shared import dsse, limits
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, build_assignment_keys, parse_assignment_keys
from shared.wire.down import ASSIGNMENT_PAYLOAD_TYPE, Assignment, decode_desired
from tests.fleet_kit import tiny_bundle
from tests.hub_kit import KitDevice
from tests.registry_kit import Flow, released_hub


@dataclass(frozen=True)
class World:
    """Versions 1 and 2 of digits are registered; 1 is approved and deployed to pi-1."""

    flow: Flow
    pi: KitDevice
    other: KitDevice
    dataset: str
    early: httpx.Response
    plan: dict[str, Any]
    bundle: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.bundle).hexdigest()

    @property
    def artefact(self) -> str:
        return f"/v1/artefacts/{self.sha256}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with released_hub(tmp_path_factory.mktemp("hub")) as flow:
        flow.create_model("digits", description="Handwritten digits")
        flow.create_model("faces")
        pi, other = flow.kit.enrol("pi-1"), flow.kit.enrol("pi-2")
        for version in (1, 2):
            assert flow.digits(version).status_code == 201
        dataset = flow.put_dataset()
        early = flow.deploy("digits", 1)
        assert flow.gate("digits", 1, dataset)["passed"]
        flow.approve("digits", 1)
        answer = flow.deploy("digits", 1, "id==pi-1", note="first")
        assert answer.status_code == 201, answer.text
        bundle = (flow.kit.folder / "digits-1.bundle").read_bytes()
        yield World(flow, pi, other, dataset, early, answer.json(), bundle)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


# --- registering ------------------------------------------------------------------------------------------------------
def test_a_version_shows_what_its_bundle_says(world: World) -> None:
    found = world.flow.admin.get("/v1/models/digits/versions/1").json()
    assert (found["status"], found["bundle_sha256"], found["available"]) == ("approved", world.sha256, True)
    assert found["manifest"]["lineage"]["data_name"] == "scikit-learn digits"
    assert found["card"].startswith("# Digits")
    listed = world.flow.admin.get("/v1/models/digits/versions").json()["items"]
    assert [(item["version"], item["status"]) for item in listed] == [(2, "registered"), (1, "approved")]


def test_the_same_bytes_again_are_no_new_version_and_others_are_refused(world: World, tmp_path: Path) -> None:
    again = world.flow.put_bundle("digits", world.flow.kit.folder / "digits-1.bundle")
    assert (again.status_code, again.json()["created"]) == (200, False)
    tiny_bundle(tmp_path / "x.bundle", 1)
    assert code(world.flow.put_bundle("digits", tmp_path / "x.bundle")) == (409, "version.exists")


def test_what_is_not_a_bundle_is_refused_in_the_one_error_shape(world: World, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"noise" * 1000)
    assert code(world.flow.put_bundle("digits", tmp_path / "x")) == (400, "bundle.malformed")
    assert code(world.flow.put_bundle("nobody", tmp_path / "x")) == (404, "model.unknown")


def test_an_upload_that_announces_too_much_is_refused_before_it_is_sent(world: World) -> None:
    kit = world.flow.kit
    url = urlsplit(kit.url)
    connection = HTTPSConnection(url.hostname or "", url.port, context=kit.tls(), timeout=20)
    connection.putrequest("PUT", "/v1/models/digits/versions")
    connection.putheader("Authorization", f"Bearer {kit.admin_token}")
    connection.putheader("Content-Length", str(limits.MAX_BUNDLE_BYTES + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["error"]["code"]) == (413, "request.too_large")
    connection.close()


def test_people_download_the_bundle_and_compare_versions(world: World) -> None:
    assert world.flow.admin.get("/v1/models/digits/versions/1/bundle").content == world.bundle
    found = world.flow.admin.get("/v1/models/digits/compare", params={"a": 1, "b": 2}).json()
    assert {change["path"] for change in found["files"]} >= {"card.md"}
    assert found["a"]["gate_passed"] is True
    lineage = world.flow.admin.get("/v1/models/digits/versions/1/lineage").json()
    assert lineage["lineage"]["code_revision"] == "test"


def test_aliases_move_and_remember(world: World) -> None:
    admin = world.flow.admin
    assert code(admin.put("/v1/models/digits/aliases/production", json={"version": 2})) == (409, "alias.not_approved")
    moved = admin.put("/v1/models/digits/aliases/production", json={"version": 1, "reason": "first"})
    assert [item["alias"] for item in moved.json()["items"]] == ["production"]
    history = admin.get("/v1/models/digits/aliases/production/history").json()["items"]
    assert [(move["version"], move["reason"], move["by"]) for move in history] == [(1, "first", "admin")]


# --- gate, approval, deployment ---------------------------------------------------------------------------------------
def test_the_gates_evidence_can_be_read_later(world: World) -> None:
    gates = world.flow.admin.get("/v1/models/digits/versions/1/gates").json()["items"]
    assert gates[0]["passed"] is True
    assert gates[0]["dataset_sha256"] == world.dataset
    assert gates[0]["metrics"]["values"]["samples"] == 540


def test_nothing_is_deployed_before_it_is_approved(world: World) -> None:
    assert code(world.early) == (409, "deployment.not_approved")
    assert "skerry versions sign" in world.early.json()["error"]["hint"]
    assert code(world.flow.deploy("digits", 2)) == (409, "deployment.not_approved")


def test_a_dry_run_and_a_bad_filter_change_nothing(world: World) -> None:
    answer = world.flow.deploy("digits", 1, dry_run=True)
    assert answer.status_code == 200
    assert (answer.json()["deployment_id"], answer.json()["devices"]) == (None, 2)
    assert code(world.flow.deploy("digits", 1, "colour==red")) == (400, "filter.field")
    assert len(world.flow.admin.get("/v1/deployments").json()["items"]) == 1


def test_the_device_gets_its_signed_assignment_and_nobody_elses(world: World) -> None:
    state = decode_desired(world.pi.client.get("/v1/device/desired").content)
    assert (state.device_id, state.revision, len(state.assignments)) == ("pi-1", 1, 1)
    online = world.flow.kit.hub.trust.online_keys()
    keys = parse_assignment_keys(build_assignment_keys([online.assignment]))
    payload = dsse.verify(state.assignments[0], ASSIGNMENT_PAYLOAD_TYPE, keys, limits.MAX_ASSIGNMENT_BYTES)
    fields = json.loads(payload)
    assert {name: fields[name] for name in ("device_id", "model", "version", "target", "bundle_sha256")} == {
        "device_id": "pi-1",
        "model": "digits",
        "version": 1,
        "target": "digits/1.bundle",
        "bundle_sha256": world.sha256,
    }
    conditions = {"mode", "shadow", "window"}  # said only where there are any, so that older devices know the rest
    assert set(fields) == set(Assignment.__struct_fields__) - conditions
    assert fields["deployment"] == world.plan["deployment_id"]
    assert decode_desired(world.other.client.get("/v1/device/desired").content).assignments == []
    assert ASSIGNMENT_KEYS_PATH.startswith("skerry/")


def test_a_deployment_shows_its_progress(world: World) -> None:
    found = world.flow.admin.get(f"/v1/deployments/{world.plan['deployment_id']}").json()
    assert sum(found["progress"].values()) == found["deployment"]["devices"] == 1
    devices = world.flow.admin.get(f"/v1/deployments/{world.plan['deployment_id']}/devices").json()["items"]
    assert [row["device_id"] for row in devices] == ["pi-1"]
    assert code(world.flow.admin.get("/v1/deployments/d-none")) == (404, "deployment.unknown")


def test_the_fleets_status_adds_up(world: World) -> None:
    found = world.flow.admin.get("/v1/status").json()
    assert found["devices"]["total"] == found["devices"]["active"] == 2
    assert found["profiles"] == [{"profile": "raspberry-pi-4", "devices": 2, "online": found["devices"]["online"]}]
    assert found["deployments"][0]["note"] == "first"


# --- artefacts --------------------------------------------------------------------------------------------------------
def test_a_device_fetches_its_bundle_whole_and_in_parts(world: World) -> None:
    whole = world.pi.client.get(world.artefact)
    assert (whole.status_code, whole.content) == (200, world.bundle)
    assert whole.headers["etag"] == f'"{world.sha256}"'
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(world.bundle)
    headers = {"Range": "bytes=1000-", "If-Range": whole.headers["etag"]}
    rest = world.pi.client.get(world.artefact, headers=headers)
    assert (rest.status_code, rest.content) == (206, world.bundle[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(world.bundle) - 1}/{len(world.bundle)}"
    other = world.pi.client.get(world.artefact, headers={"Range": "bytes=1000-", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, world.bundle)
    beyond = world.pi.client.get(world.artefact, headers={"Range": f"bytes={len(world.bundle)}-"})
    assert code(beyond) == (416, "blob.range")
    assert beyond.headers["content-range"] == f"bytes */{len(world.bundle)}"
    same = world.pi.client.get(world.artefact, headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_a_bundle_exists_only_for_the_devices_it_is_for(world: World) -> None:
    assert code(world.other.client.get(world.artefact)) == (404, "artefact.not_found")
    second = world.flow.admin.get("/v1/models/digits/versions/2").json()["bundle_sha256"]
    assert code(world.pi.client.get(f"/v1/artefacts/{second}")) == (404, "artefact.not_found")
    assert code(world.pi.client.get(f"/v1/artefacts/{world.dataset}")) == (404, "artefact.not_found")
    assert code(world.pi.client.get("/v1/artefacts/nonsense")) == (400, "id.sha256")
    assert code(world.flow.admin.get(world.artefact))[0] == 401


# --- who may do what --------------------------------------------------------------------------------------------------
def test_roles_do_what_they_are_for(world: World) -> None:
    viewer, scientist = world.flow.kit.person(Role.VIEWER), world.flow.kit.person(Role.DATA_SCIENTIST)
    assert viewer.get("/v1/models/digits").status_code == 200
    assert code(viewer.post("/v1/models", json={"name": "mine"}))[0] == 403
    wish = {"model": "digits", "version": 1, "filter": "all"}
    assert code(scientist.post("/v1/deployments", json=wish))[0] == 403
    assert code(world.flow.kit.person(Role.OPERATOR).post("/v1/gc", json={}))[0] == 403
    assert code(world.flow.kit.person(Role.OPERATOR).put("/v1/models/digits/versions", content=b"x"))[0] == 403


def test_a_token_for_one_model_does_not_reach_another(world: World, tmp_path: Path) -> None:
    faces = world.flow.kit.person(Role.OPERATOR, models=["faces"])
    scientist = world.flow.kit.person(Role.DATA_SCIENTIST, models=["faces"])
    assert [item["model"] for item in faces.get("/v1/models").json()["items"]] == ["faces"]
    assert code(faces.get("/v1/models/digits")) == (403, "access.scope")
    wish = {"model": "digits", "version": 1, "filter": "all"}
    assert code(faces.post("/v1/deployments", json=wish)) == (403, "access.scope")
    assert code(faces.get(f"/v1/deployments/{world.plan['deployment_id']}")) == (403, "access.scope")
    assert code(faces.post(f"/v1/deployments/{world.plan['deployment_id']}/cancel", json={})) == (403, "access.scope")
    assert faces.get("/v1/deployments").json()["items"] == []
    tiny_bundle(tmp_path / "x.bundle", 1, "digits")
    assert code(world.flow.put_bundle("faces", tmp_path / "x.bundle", scientist)) == (400, "version.wrong_model")
    assert code(world.flow.put_bundle("digits", tmp_path / "x.bundle", scientist)) == (403, "access.scope")


def test_a_dry_run_of_garbage_collection_is_the_default(world: World) -> None:
    found = world.flow.admin.post("/v1/gc", json={}).json()
    assert (found["dry_run"], found["bundles"], found["datasets"]) == (True, [], [])
