"""Devices as people see them: lists in pages, one in full, tags, reports and events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from shared.wire.down import decode_desired
from shared.wire.up import Envelope as UpEnvelope
from shared.wire.up import Event, Heartbeat, Inventory, ModelStatus, encode_body, encode_envelope
from tests.hub_kit import HubKit, KitDevice, running_hub

EPOCH = "0123456789abcdef"
BODIES: list[msgspec.Struct] = [
    Inventory(
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        runtime="litert",
        runtime_version="2.1",
        arch="aarch64",
        os="linux",
        python="3.11",
        cpu_count=4,
        memory_bytes=2**30,
        storage_bytes=2**34,
    ),
    Heartbeat(agent_version="0.1.0", uptime_s=10, models=[ModelStatus(model="digits", version=2, requests=5)]),
    Event(code="assignment.refused", severity="warning", message="It has expired."),
    Event(code="assignment.refused", severity="warning", message="It has expired again."),
]
KINDS = {Inventory: "inventory", Heartbeat: "heartbeat", Event: "event"}


def envelopes(device_id: str, bodies: list[msgspec.Struct]) -> list[bytes]:
    return [
        encode_envelope(
            UpEnvelope(
                device_id=device_id,
                epoch=EPOCH,
                first_seq=seq,
                seq=seq,
                created_s=1.0,
                kind=KINDS[type(body)],  # type: ignore[arg-type]
                body=encode_body(body),
            )
        )
        for seq, body in enumerate(bodies, 1)
    ]


@dataclass(frozen=True)
class FleetKit:
    kit: HubKit
    device: KitDevice

    def pages(self, path: str, limit: int, **params: Any) -> Iterator[list[dict[str, Any]]]:
        cursor: str | None = None
        while True:
            given = {"limit": limit, **params, **({"cursor": cursor} if cursor else {})}
            page = self.kit.admin.get(path, params=given).json()
            yield page["items"]
            cursor = page["next"]
            if cursor is None:
                return


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetKit]:
    with running_hub(tmp_path_factory.mktemp("hub")) as kit:
        device = kit.enrol("pi-0", tags={"site": "north"})
        for number in range(1, 7):
            kit.enrol(f"pi-{number}", tags={"site": "south"})
        answer = device.client.post("/v1/device/messages", content=msgspec.msgpack.encode(envelopes("pi-0", BODIES)))
        said = answer.json()
        assert said.pop("hub_s") == pytest.approx(kit.hub.clock.now(), abs=60), "so that the device knows its clock"
        assert said == {"schema_version": 1, "epoch": EPOCH, "watermark": 4}, answer.text
        yield FleetKit(kit, device)


def test_pages_join_to_the_whole_list_without_a_device_twice(fleet: FleetKit) -> None:
    pages = list(fleet.pages("/v1/devices", 3))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [item["device_id"] for page in pages for item in page] == [f"pi-{number}" for number in range(7)]


def test_a_list_that_fits_has_no_next_page(fleet: FleetKit) -> None:
    assert [len(page) for page in fleet.pages("/v1/devices", 7)] == [7]


def test_a_device_that_enrols_between_pages_moves_nothing(fleet: FleetKit) -> None:
    pages = fleet.pages("/v1/devices", 3)
    first = next(pages)
    fleet.kit.enrol(f"aa-{secrets.token_hex(3)}")  # sorts before the first page
    rest = [item["device_id"] for page in pages for item in page]
    assert [item["device_id"] for item in first][-1] < rest[0]
    assert len(rest) == len(set(rest))


def test_a_cursor_of_another_list_is_refused(fleet: FleetKit) -> None:
    cursor = fleet.kit.admin.get("/v1/audit", params={"limit": 1}).json()["next"]
    answer = fleet.kit.admin.get("/v1/devices", params={"cursor": cursor})
    assert answer.json()["error"]["code"] == "request.cursor"


def test_a_filter_chooses_and_a_bad_one_is_refused(fleet: FleetKit) -> None:
    north = fleet.kit.admin.get("/v1/devices", params={"filter": "tag.site==north"}).json()["items"]
    assert [item["device_id"] for item in north] == ["pi-0"]
    by_version = fleet.kit.admin.get("/v1/devices", params={"filter": "version.digits==2"}).json()["items"]
    assert [item["device_id"] for item in by_version] == ["pi-0"]
    answer = fleet.kit.admin.get("/v1/devices", params={"filter": "'; DROP TABLE devices; --"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"].startswith("filter.")


def test_a_listed_device_shows_tags_models_and_whether_it_is_online(fleet: FleetKit) -> None:
    items = {item["device_id"]: item for item in fleet.kit.admin.get("/v1/devices").json()["items"]}
    assert items["pi-0"]["online"] is True
    assert items["pi-0"]["tags"] == {"site": "north"}
    assert [(model["model"], model["version"]) for model in items["pi-0"]["models"]] == [("digits", 2)]
    assert (items["pi-1"]["online"], items["pi-1"]["last_seen_s"], items["pi-1"]["models"]) == (False, None, [])


def test_one_device_in_full(fleet: FleetKit) -> None:
    item = fleet.kit.admin.get("/v1/devices/pi-0").json()
    assert item["inventory"]["cpu_count"] == 4
    assert item["hot"]["watermark"] == 4
    assert item["hot"]["heartbeat"]["uptime_s"] == 10
    (certificate,) = item["certificates"]
    assert len(certificate["fingerprint"]) == 64
    assert "public_key" not in certificate
    assert [event["seq"] for event in item["events"]] == [4, 3]
    assert item["reports"] == []


def test_events_are_paged_newest_first(fleet: FleetKit) -> None:
    pages = list(fleet.pages("/v1/devices/pi-0/events", 1))
    assert [event["message"] for page in pages for event in page] == ["It has expired again.", "It has expired."]


def test_a_device_that_is_not_there_is_not_found(fleet: FleetKit) -> None:
    for path in ("", "/reports", "/events"):
        answer = fleet.kit.admin.get(f"/v1/devices/nobody{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "device.not_found")
    for path, body in (("/revoke", {}), ("/tags", {"a": "b"})):
        method = "POST" if path == "/revoke" else "PUT"
        answer = fleet.kit.admin.request(method, f"/v1/devices/nobody{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "device.not_found")


def test_tags_are_set_changed_and_taken_away(fleet: FleetKit) -> None:
    path = "/v1/devices/pi-3/tags"
    assert fleet.kit.admin.put(path, json={"ring": "canary"}).json() == {"ring": "canary", "site": "south"}
    assert fleet.kit.admin.put(path, json={"ring": "early", "site": None}).json() == {"ring": "early"}
    answer = fleet.kit.admin.put(path, json={f"t{number}": "x" for number in range(32)})
    assert answer.json()["error"]["code"] == "device.too_many_tags"
    assert fleet.kit.admin.get("/v1/devices/pi-3").json()["tags"] == {"ring": "early"}
    assert fleet.kit.admin.put(path, json={"a b": "x"}).json()["error"]["code"] == "id.tag"


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x80", msgspec.msgpack.encode([b"x"] * 257)])
def test_a_batch_that_is_none_is_refused(fleet: FleetKit, body: bytes) -> None:
    answer = fleet.device.client.post("/v1/device/messages", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "wire.malformed")


def test_a_device_cannot_speak_for_another(fleet: FleetKit) -> None:
    forged = envelopes("pi-1", [Heartbeat(agent_version="evil", uptime_s=1)])
    fleet.device.client.post("/v1/device/messages", content=msgspec.msgpack.encode(forged))
    assert fleet.kit.admin.get("/v1/devices/pi-1").json()["hot"] is None


def test_a_desired_state_is_sent_again_only_when_it_changed(fleet: FleetKit) -> None:
    answer = fleet.device.client.get("/v1/device/desired")
    state = decode_desired(answer.content)
    assert (state.device_id, state.assignments) == ("pi-0", [])
    unchanged = fleet.device.client.get("/v1/device/desired", headers={"if-none-match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    changed = fleet.device.client.get("/v1/device/desired", headers={"if-none-match": '"another"'})
    assert changed.status_code == 200
