"""Client certificates over real sockets: who gets past TLS, who past the hub, and how one follows another."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import httpx
import pytest

from hub.pki.authority import Authority, key_pem, new_key
from shared.wire.http import RenewReply
from tests.hub_kit import HubKit, KitDevice, csr_pem

DAY_S = 86_400


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"]) if answer.is_error else ""


def use(device: KitDevice) -> str:
    """Ask something that only devices may; the error's code, if the hub does not know the device."""
    answer = device.client.get("/v1/device/desired")
    return code_of(answer) if answer.status_code == 401 else ""


def renewed(kit: HubKit, device: KitDevice) -> KitDevice:
    key = new_key()
    answer = device.client.post("/v1/device/renew", json={"csr_pem": csr_pem(key)})
    assert set(answer.json()) == set(RenewReply.__struct_fields__), answer.text
    return kit.device(device.device_id, key, answer.json()["certificate_pem"])


def test_a_certificate_of_another_authority_never_gets_past_tls(kit: HubKit, tmp_path: Path) -> None:
    kit.enrol("pi-1")
    stranger = Authority.create("Skerry device CA", tmp_path, "other", now_s=kit.clock.now(), days=1)
    key = new_key()
    issued = stranger.issue_client(key.public_key(), "pi-1", now_s=kit.clock.now(), lifetime_s=DAY_S)
    device = kit.device("pi-1", key, issued.pem)
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        device.client.get("/v1/health")


def test_the_hubs_own_certificates_are_no_devices(kit: HubKit) -> None:
    for name in ("publisher", "server"):
        files = kit.hub.pki.files(name)
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            kit.client(tls=kit.tls(files.certificate, files.key)).get("/v1/health")


def test_a_certificate_of_the_right_authority_that_the_hub_did_not_record_is_refused(kit: HubKit) -> None:
    kit.enrol("pi-1")
    key = new_key()
    issued = kit.hub.pki.device_ca.issue_client(key.public_key(), "pi-1", now_s=kit.clock.now(), lifetime_s=DAY_S)
    assert use(kit.device("pi-1", key, issued.pem)) == "device.unknown_certificate"


def test_a_certificate_without_its_key_is_useless(kit: HubKit, tmp_path: Path) -> None:
    device = kit.enrol("pi-1")
    (tmp_path / "other.key").write_bytes(key_pem(new_key()))
    with pytest.raises(ssl.SSLError):
        kit.tls(device.certificate_file, tmp_path / "other.key")


def test_no_header_makes_a_device(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    claims = {"x-client-cert": device.certificate_pem.replace("\n", ""), "x-ssl-client-dn": "CN=pi-1"}
    answer = kit.client().get("/v1/device/desired", headers=claims)
    assert (answer.status_code, code_of(answer)) == (401, "auth.no_certificate")


def test_a_device_is_no_person(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    for path in ("/v1/devices", "/v1/audit", "/v1/tokens", "/v1/whoami"):
        assert device.client.get(path).status_code == 401


def test_a_person_is_no_device(kit: HubKit) -> None:
    assert kit.admin.get("/v1/device/desired").status_code == 401


def test_a_revoked_device_is_refused_at_its_next_request_on_the_same_connection(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    assert use(device) == ""
    assert kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "stolen"}).status_code == 204
    assert use(device) == "device.revoked"
    answer = device.client.post("/v1/device/renew", json={"csr_pem": csr_pem(new_key())})
    assert code_of(answer) == "device.revoked"


def test_listeners_hear_of_a_revocation_and_one_that_fails_stops_nothing(
    kit: HubKit, caplog: pytest.LogCaptureFixture
) -> None:
    kit.enrol("pi-1")
    heard: list[str] = []
    called = threading.Event()

    def fails(device_id: str) -> None:
        raise RuntimeError(device_id)

    def hears(device_id: str) -> None:
        heard.append(device_id)
        called.set()

    kit.hub.device_hooks.on_cut_off(fails)
    kit.hub.device_hooks.on_cut_off(hears)
    assert kit.admin.post("/v1/devices/pi-1/revoke", json={}).status_code == 204
    assert called.wait(10)
    assert heard == ["pi-1"]
    assert "a listener failed for device pi-1" in caplog.text


def test_a_renewed_certificate_ends_the_old_one_when_it_is_used_and_not_before(kit: HubKit) -> None:
    old = kit.enrol("pi-1")
    new = renewed(kit, old)
    assert use(old) == ""
    assert use(old) == ""
    assert use(new) == ""
    assert use(old) == "device.certificate_superseded"
    assert use(new) == ""


def test_a_lost_renewal_can_be_asked_for_again(kit: HubKit) -> None:
    old = kit.enrol("pi-1")
    lost, kept = renewed(kit, old), renewed(kit, old)
    assert use(old) == ""
    assert use(kept) == ""
    assert use(lost) == "device.certificate_superseded"


def test_renewing_without_end_keeps_few_certificates_alive(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    made = [renewed(kit, device) for _ in range(8)]
    rows = kit.admin.get("/v1/devices/pi-1").json()["certificates"]
    assert sum(row["superseded_s"] is None for row in rows) <= 5
    assert use(device) == ""
    assert use(made[-1]) == ""


def test_certificates_keep_their_order_when_the_clock_is_set_back(kit: HubKit) -> None:
    kit.clock.ahead_s = 200.0
    old = kit.enrol("pi-1")
    kit.clock.ahead_s = 0.0
    new = renewed(kit, old)
    assert use(new) == ""
    assert use(old) == "device.certificate_superseded"


def test_an_expired_certificate_is_refused_by_the_hubs_own_clock(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    kit.clock.ahead_s = 91 * DAY_S
    assert use(device) == "device.certificate_expired"


def test_a_renewal_needs_a_good_request(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    assert code_of(device.client.post("/v1/device/renew", json={"csr_pem": "x"})) == "csr.malformed"
    assert code_of(device.client.post("/v1/device/renew", json={})) == "json.wrong_shape"
    assert code_of(device.client.post("/v1/device/renew", content=b"x" * 40_000)) == "request.too_large"


def test_renewal_and_revocation_are_in_the_audit_log(kit: HubKit) -> None:
    device = kit.enrol("pi-1")
    renewed(kit, device)
    kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "sold"})
    kit.admin.post("/v1/devices/pi-1/revoke", json={"reason": "again"})
    items = kit.admin.get("/v1/audit", params={"subject": "pi-1"}).json()["items"]
    shown = [(item["actor"], item["action"]) for item in items]
    assert shown == [("admin", "device.revoke"), ("device:pi-1", "device.renew"), ("device:pi-1", "device.enrol")]
    assert items[0]["detail"] == {"reason": "sold"}
