"""How devices come in: once per token, with their own key, under the id that the token allows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from hub.pki.authority import new_key
from shared.join import decode_join
from shared.wire.http import EnrolReply
from tests.hub_kit import HubKit, running_hub


def code_of(answer: httpx.Response) -> str:
    return "" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def test_the_answer_holds_all_that_a_device_keeps(shared_kit: HubKit) -> None:
    key = new_key()
    answer = shared_kit.enrol_request(shared_kit.enrolment_token(), key, "pi-answer")
    reply = answer.json()
    assert set(reply) == set(EnrolReply.__struct_fields__)
    assert reply["device_id"] == "pi-answer"
    assert reply["hub_ca_pem"] == shared_kit.hub.pki.hub_ca_file.read_text()
    assert (reply["mqtt_host"], reply["mqtt_port"]) == ("127.0.0.1", 8883)
    assert reply["tuf_root"].encode() == shared_kit.hub.trust.root()
    certificate = x509.load_pem_x509_certificate(reply["certificate_pem"].encode())
    certificate.verify_directly_issued_by(shared_kit.hub.pki.device_ca.certificate)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "pi-answer"


def test_the_join_string_leads_to_this_hub(shared_kit: HubKit) -> None:
    made = shared_kit.admin.post("/v1/enrolment-tokens", json={}).json()
    join = decode_join(made["join"])
    assert (join.hub_url, join.token) == (shared_kit.url, made["token"])
    served = shared_kit.client().get("/v1/ca.pem").content
    assert x509.load_pem_x509_certificate(served).fingerprint(SHA256()).hex() == join.ca_sha256


def test_a_token_lets_one_device_in(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token()
    assert shared_kit.enrol_request(token, new_key(), "pi-first").status_code == 200
    answer = shared_kit.enrol_request(token, new_key(), "pi-second")
    assert (answer.status_code, code_of(answer)) == (401, "enrolment.token_used")
    assert shared_kit.admin.get("/v1/devices/pi-second").status_code == 404


def test_of_many_devices_at_once_with_one_token_one_gets_in(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token()
    keys = [new_key() for _ in range(16)]

    def ask(number: int) -> str:
        return code_of(shared_kit.enrol_request(token, keys[number], f"pi-race-{number}"))

    with ThreadPoolExecutor(16) as pool:
        codes = sorted(pool.map(ask, range(16)))
    assert codes == ["", *["enrolment.token_used"] * 15]
    found = shared_kit.admin.get("/v1/devices", params={"filter": "id==pi-race-*"}).json()["items"]
    assert len(found) == 1


def test_a_device_that_lost_the_answer_gets_it_again_for_the_same_key(kit: HubKit) -> None:
    token, key = kit.enrolment_token(), new_key()
    lost = kit.enrol_request(token, key, "pi-1").json()
    answer = kit.enrol_request(token, key, "pi-1")
    assert answer.json()["device_id"] == "pi-1"
    assert kit.device("pi-1", key, answer.json()["certificate_pem"]).client.get("/v1/device/desired").status_code != 401
    # Its first use ends the lost one, and with it the way to ask again.
    assert kit.device("pi-1", key, lost["certificate_pem"]).client.get("/v1/device/desired").status_code == 401
    assert code_of(kit.enrol_request(token, key, "pi-1")) == "enrolment.token_used"


def test_asking_again_has_an_end(kit: HubKit) -> None:
    token, key = kit.enrolment_token(), new_key()
    codes = [code_of(kit.enrol_request(token, key, "pi-1")) for _ in range(6)]
    assert codes == ["", "", "", "", "enrolment.token_used", "enrolment.token_used"]


def test_a_revoked_device_cannot_ask_again(kit: HubKit) -> None:
    token, key = kit.enrolment_token(), new_key()
    kit.enrol_request(token, key, "pi-1")
    kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "stolen"})
    assert code_of(kit.enrol_request(token, key, "pi-1")) == "enrolment.token_used"


def test_an_expired_token_is_refused(kit: HubKit) -> None:
    token = kit.enrolment_token(ttl_s=60)
    kit.clock.ahead_s += 61
    answer = kit.enrol_request(token, new_key(), "pi-1")
    assert (answer.status_code, code_of(answer)) == (401, "enrolment.token_expired")


def test_a_token_that_was_taken_back_is_refused(shared_kit: HubKit) -> None:
    made = shared_kit.admin.post("/v1/enrolment-tokens", json={}).json()
    assert shared_kit.admin.delete(f"/v1/enrolment-tokens/{made['token_id']}").status_code == 204
    assert code_of(shared_kit.enrol_request(made["token"], new_key(), "pi-1")) == "enrolment.unknown_token"
    assert shared_kit.admin.delete(f"/v1/enrolment-tokens/{made['token_id']}").status_code == 404


def test_a_used_token_cannot_be_taken_back(shared_kit: HubKit) -> None:
    made = shared_kit.admin.post("/v1/enrolment-tokens", json={}).json()
    shared_kit.enrol_request(made["token"], new_key(), "pi-used")
    answer = shared_kit.admin.delete(f"/v1/enrolment-tokens/{made['token_id']}")
    assert (answer.status_code, code_of(answer)) == (409, "enrolment.token_used")


def test_a_token_for_one_piece_of_hardware_is_refused_elsewhere_and_stays_unused(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token(hardware_id="serial-1")
    answer = shared_kit.enrol_request(token, new_key(), "pi-hardware", hardware_id="serial-2")
    assert (answer.status_code, code_of(answer)) == (403, "enrolment.hardware")
    assert code_of(shared_kit.enrol_request(token, new_key(), "pi-hardware")) == "enrolment.hardware"
    assert shared_kit.enrol_request(token, new_key(), "pi-hardware", hardware_id="serial-1").status_code == 200


def test_a_token_for_one_profile_is_refused_for_another(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token(profile="x86-gateway")
    assert code_of(shared_kit.enrol_request(token, new_key(), "pi-profile")) == "enrolment.profile"


def test_the_token_decides_the_id_and_the_tags(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token(device_id="pi-fixed", tags={"site": "north"})
    reply = shared_kit.enrol_request(token, new_key(), "pi-wished").json()
    assert reply["device_id"] == "pi-fixed"
    assert shared_kit.admin.get("/v1/devices/pi-fixed").json()["tags"] == {"site": "north"}


def test_a_device_without_a_wish_gets_an_id(shared_kit: HubKit) -> None:
    reply = shared_kit.enrol_request(shared_kit.enrolment_token(), new_key()).json()
    assert reply["device_id"].startswith("device-")


def test_an_id_that_exists_needs_a_token_that_names_it(kit: HubKit) -> None:
    old = kit.enrol("pi-1")
    open_token = kit.enrolment_token()
    answer = kit.enrol_request(open_token, new_key(), "pi-1")
    assert (answer.status_code, code_of(answer)) == (409, "device.exists")
    assert old.client.get("/v1/device/desired").status_code != 401
    assert kit.enrol_request(open_token, new_key(), "pi-2").status_code == 200  # the refusal did not use it
    new = kit.enrol("pi-1", device_id="pi-1")
    assert new.client.get("/v1/device/desired").status_code != 401
    assert code_of(old.client.get("/v1/device/desired")) == "device.certificate_superseded"


def test_a_revoked_device_comes_back_with_a_token_that_names_it(kit: HubKit) -> None:
    old = kit.enrol("pi-1")
    kit.admin.post("/v1/devices/pi-1/revoke", json={})
    assert code_of(kit.enrol_request(kit.enrolment_token(), new_key(), "pi-1")) == "device.exists"
    new = kit.enrol("pi-1", device_id="pi-1")
    assert new.client.get("/v1/device/desired").status_code != 401
    assert old.client.get("/v1/device/desired").status_code == 401


@pytest.mark.parametrize("device_id", ["../x", "a.b", "A", "a/b", "$sys", "a" * 64, "", "a\n", "#"])
def test_a_hostile_id_is_refused(shared_kit: HubKit, device_id: str) -> None:
    answer = shared_kit.enrol_request(shared_kit.enrolment_token(), new_key(), device_id)
    assert (answer.status_code, code_of(answer)) == (400, "json.wrong_shape")
    answer = shared_kit.admin.post("/v1/enrolment-tokens", json={"device_id": device_id})
    assert (answer.status_code, code_of(answer)) == (400, "id.device")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"ttl_s": 0}, "enrolment.ttl"),
        ({"ttl_s": 10**9}, "enrolment.ttl"),
        ({"count": 0}, "enrolment.count"),
        ({"count": 2, "device_id": "pi-1"}, "enrolment.count"),
        ({"tags": {"Bad": "x"}}, "id.tag"),
        ({"tags": {f"t{n}": "x" for n in range(33)}}, "device.too_many_tags"),
        ({"profile": "../x"}, "id.profile"),
        ({"hardware_id": "\x00"}, "id.hardware"),
    ],
)
def test_a_bad_wish_is_refused(shared_kit: HubKit, wish: dict[str, object], code: str) -> None:
    answer = shared_kit.admin.post("/v1/enrolment-tokens", json=wish)
    assert (answer.status_code, code_of(answer)) == (400, code)


def test_several_tokens_at_once_are_all_different(shared_kit: HubKit) -> None:
    made = shared_kit.admin.post("/v1/enrolment-tokens", json={"count": 5}).json()
    assert made["token"] == made["items"][0]["token"]
    assert len({item["token"] for item in made["items"]}) == 5
    listed = shared_kit.admin.get("/v1/enrolment-tokens", params={"limit": 500})
    assert {item["token_id"] for item in made["items"]} <= {item["token_id"] for item in listed.json()["items"]}
    assert not any(item["token"] in listed.text for item in made["items"])


def test_secrets_are_not_in_the_database_files(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token()
    stored = b"".join(path.read_bytes() for path in shared_kit.hub.settings.data_path.glob("hub.db*"))
    assert token.encode() not in stored


def test_a_bad_request_leaves_the_token_unused(shared_kit: HubKit) -> None:
    token = shared_kit.enrolment_token()
    body = {"token": token, "csr_pem": "nonsense", "profile": "raspberry-pi-4"}
    assert code_of(shared_kit.client().post("/v1/device/enrol", json=body)) == "csr.malformed"
    assert shared_kit.enrol_request(token, new_key(), "pi-after-bad").status_code == 200


@pytest.fixture
def untrusted_kit(tmp_path: Path) -> Iterator[HubKit]:
    with running_hub(tmp_path, trust=False) as kit:
        yield kit


def test_without_a_trust_root_no_device_gets_in_and_no_token_is_used(untrusted_kit: HubKit) -> None:
    answer = untrusted_kit.enrol_request(untrusted_kit.enrolment_token(), new_key(), "pi-1")
    assert (answer.status_code, code_of(answer)) == (409, "trust.not_initialised")
    assert "skerry trust init" in answer.json()["error"]["hint"]
    assert untrusted_kit.admin.get("/v1/enrolment-tokens").json()["items"][0]["used_s"] is None


def test_an_enrolment_is_in_the_audit_log(kit: HubKit) -> None:
    kit.enrol("pi-1")
    entry = kit.admin.get("/v1/audit", params={"action": "device.enrol"}).json()["items"][0]
    assert (entry["actor"], entry["subject"]) == ("device:pi-1", "pi-1")
    assert entry["detail"]["profile"] == "raspberry-pi-4"
