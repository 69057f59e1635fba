"""A whole hub over HTTPS with its data in PostgreSQL: the settings differ, what it says does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.provision import provision
from hub.settings import HubSettings
from shared.errors import Unavailable
from shared.wire.down import decode_desired
from tests.databases import Backend
from tests.registry_kit import Flow, released_hub


@pytest.fixture(scope="module")
def flow(postgres: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    folder = tmp_path_factory.mktemp("hub")
    with postgres.empty(folder) as url, released_hub(folder, database_url=url) as flow:
        yield flow


def test_a_release_goes_from_its_bundle_to_a_device(flow: Flow) -> None:
    flow.create_model("digits")
    assert flow.digits(1).status_code == 201
    assert flow.gate("digits", 1, flow.put_dataset())["passed"]
    flow.approve("digits", 1)
    device = flow.kit.enrol("pi-1", tags={"site": "north"})
    assert flow.deploy("digits", 1, "tag.site==north").json()["devices"] == 1
    desired = device.client.get("/v1/device/desired")
    assert desired.status_code == 200
    assert len(decode_desired(desired.content).assignments) == 1
    assert flow.admin.get("/v1/status").json()["devices"]["active"] == 1
    assert flow.admin.post("/v1/gc", json={"dry_run": False}).status_code == 200
    assert flow.admin.get("/v1/audit/verify").json()["intact"]


@pytest.mark.parametrize("path", ["/v1/devices/a%00b", "/v1/models/a%00b", "/v1/models/a%00b/versions/1"])
def test_a_name_that_the_database_cannot_hold_is_nobodys(flow: Flow, path: str) -> None:
    answer = flow.admin.get(path)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] != "internal.unexpected"


def test_text_that_a_database_cannot_hold_is_refused(flow: Flow) -> None:
    answer = flow.admin.post("/v1/models", json={"name": "words", "description": "a\0b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "request.invalid")


def test_a_hub_whose_database_is_away_says_so_at_its_start(tmp_path: Path) -> None:
    settings = HubSettings(data_dir=str(tmp_path), database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        provision(settings)
    assert caught.value.code == "database.unavailable"


def test_the_data_folder_holds_no_database(flow: Flow) -> None:
    settings: HubSettings = flow.kit.hub.settings
    assert not (settings.data_path / "hub.db").exists()
