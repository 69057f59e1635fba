"""The trust API over real TLS: devices read the repository with their certificates, people sign with their tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from securesystemslib.signer import CryptoSigner

from hub.access.permissions import Role
from hub.trust import metadata
from shared.assignment_keys import ASSIGNMENT_KEYS_PATH, parse_assignment_keys
from tests.hub_kit import HubKit, running_hub

YEAR_S = 365 * 86_400


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubKit]:
    with running_hub(tmp_path_factory.mktemp("trust-api")) as found:
        yield found


def _assignment_keys_url(kit: HubKit) -> str:
    targets = json.loads(kit.admin.get("/v1/tuf/1.targets.json").content)
    digest = targets["signed"]["targets"][ASSIGNMENT_KEYS_PATH]["hashes"]["sha256"]
    return f"/v1/tuf/targets/skerry/{digest}.assignment-keys.json"


def test_a_device_reads_the_repository_with_its_certificate(kit: HubKit) -> None:
    device = kit.enrol("reader-1")
    for name in ("1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"):
        assert device.client.get(f"/v1/tuf/{name}").json()["signed"]
    assert parse_assignment_keys(device.client.get(_assignment_keys_url(kit)).content)


def test_nobody_reads_the_repository_without_a_certificate_or_a_token(kit: HubKit) -> None:
    for path in ("/v1/tuf/1.root.json", _assignment_keys_url(kit), "/v1/trust/status"):
        assert kit.client().get(path).status_code == 401


def test_a_revoked_device_reads_nothing(kit: HubKit) -> None:
    device = kit.enrol("reader-2")
    assert kit.admin.post("/v1/devices/reader-2/revoke", json={"reason": "test"}).is_success
    assert device.client.get("/v1/tuf/timestamp.json").status_code in (401, 403)


def test_a_device_may_neither_stage_nor_sign(kit: HubKit) -> None:
    device = kit.enrol("reader-3")
    body = {"version": 1, "key_id": "k", "signature": "00"}
    for method, path in (
        ("GET", "/v1/trust/status"),
        ("GET", "/v1/trust/staged/root"),
        ("PUT", "/v1/trust/staged/root"),
        ("POST", "/v1/trust/staged/root/signatures"),
        ("POST", "/v1/trust/bootstrap"),
    ):
        answer = device.client.request(method, path, json=None if method == "GET" else body)
        assert answer.status_code == 401, path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tuf/9.root.json", "/v1/tuf/root.json", "/v1/tuf/1.timestamp.json", "/v1/tuf/..%2f..%2fhub.db",
        "/v1/tuf/targets/skerry/" + "0" * 64 + ".assignment-keys.json", "/v1/tuf/targets/skerry/assignment-keys.json",
        "/v1/tuf/targets/digits/" + "0" * 64 + ".1.bundle", "/v1/tuf/targets/..%2fskerry/" + "0" * 64 + ".x",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(kit: HubKit, path: str) -> None:
    answer = kit.admin.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("trust.no_such_metadata", "trust.no_such_target", "http.not_found")


@pytest.mark.parametrize(
    ("role", "may_stage", "may_sign"),
    [(Role.VIEWER, False, False), (Role.OPERATOR, False, False), (Role.DATA_SCIENTIST, False, False),
     (Role.REVIEWER, False, True), (Role.ADMIN, True, True)],
)  # fmt: skip
def test_only_those_who_may_stage_and_sign_the_root(kit: HubKit, role: Role, may_stage: bool, may_sign: bool) -> None:
    person = kit.person(role)
    staged = person.put("/v1/trust/staged/root", json={"metadata": "{}"})
    assert (staged.status_code != 403) == may_stage
    signed = person.post("/v1/trust/staged/root/signatures", json={"version": 2, "key_id": "k", "signature": "00"})
    assert (signed.status_code != 403) == may_sign
    assert person.get("/v1/trust/status").status_code == 200


def test_a_token_for_one_model_sees_and_signs_that_model_only(kit: HubKit) -> None:
    person = kit.person(Role.REVIEWER, ["digits"])
    assert person.get("/v1/trust/staged/model-digits").status_code == 404
    body = {"version": 1, "key_id": "k", "signature": "00"}
    refused = (
        person.get("/v1/trust/staged/model-fashion"),
        person.post("/v1/trust/staged/model-fashion/signatures", json=body),
    )
    assert {answer.json()["error"]["code"] for answer in refused} == {"access.scope"}
    assert person.post("/v1/models/fashion/versions/1/release").json()["error"]["code"] == "access.scope"


def test_staged_metadata_comes_back_as_the_very_bytes_to_sign(kit: HubKit) -> None:
    root = kit.admin.get("/v1/tuf/1.root.json").content
    proposal = metadata.revise_root(root, expires_s=kit.clock.now() + YEAR_S)
    put = kit.admin.put("/v1/trust/staged/root", json={"metadata": proposal.decode(), "note": "yearly"})
    assert put.status_code == 200, put.text
    got = kit.person(Role.REVIEWER).get("/v1/trust/staged/root").json()
    assert got["metadata"].encode() == proposal
    assert (got["missing"], got["published"], got["context"]) == (2, False, {"note": "yearly"})
    stranger = metadata.make_signature(proposal, CryptoSigner.generate_ed25519())
    body = {"version": 2, "key_id": stranger.keyid, "signature": stranger.signature}
    answer = kit.admin.post("/v1/trust/staged/root/signatures", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "trust.unknown_key")
    assert kit.admin.delete("/v1/trust/staged/root").status_code == 204
    assert kit.admin.get("/v1/trust/staged/root").status_code == 404


def test_a_second_bootstrap_is_refused(kit: HubKit) -> None:
    root, targets = (kit.admin.get(f"/v1/tuf/1.{role}.json").text for role in ("root", "targets"))
    keys = kit.admin.get(_assignment_keys_url(kit)).text
    body = {"root": root, "targets": targets, "files": {ASSIGNMENT_KEYS_PATH: keys}}
    assert kit.admin.post("/v1/trust/bootstrap", json=body).status_code == 201
    other = (
        metadata.renew(root.encode(), expires_s=kit.clock.now() + YEAR_S).decode().replace('"version":2', '"version":1')
    )
    answer = kit.admin.post("/v1/trust/bootstrap", json={**body, "root": other})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "trust.initialised")


def test_metadata_over_the_bound_is_refused_before_it_is_parsed(kit: HubKit) -> None:
    answer = kit.admin.put("/v1/trust/staged/root", json={"metadata": "x" * 600_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "json.too_large")


def test_a_new_hub_tells_a_device_the_newest_root_and_never_its_private_keys(kit: HubKit) -> None:
    keys = kit.admin.get("/v1/trust/online-keys").json()
    assert set(keys) == {"online", "assignment", "online_next", "assignment_next"}
    assert set(keys["online"]["key"]["keyval"]) == {"public"}
    root = kit.hub.trust.root()
    assert hashlib.sha256(root).digest() == hashlib.sha256(kit.admin.get("/v1/tuf/1.root.json").content).digest()
