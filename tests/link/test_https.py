"""The HTTPS child against a real TLS server, as a real child process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.identity.enrol import Wish, enrol
from agent.link.exchange import Request, Result
from agent.link.fallback import HttpsFallback
from agent.paths import AgentPaths
from shared.errors import Unavailable
from shared.wire.down import DesiredState, encode
from shared.wire.http import DeviceMessagesReply
from tests.agent_identity.tiny_hub import Answer, TinyHub, error

EPOCH = "0" * 16
HUB_S = 1_700_000_000.5
DESIRED = encode(DesiredState(device_id="dev1", revision=4))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[TinyHub]:
    folder = tmp_path / "hub"
    folder.mkdir()
    tiny = TinyHub(folder)
    enrol(AgentPaths(tmp_path / "state"), tiny.join(), Wish(profile="raspberry-pi-4", device_id="dev1"))
    tiny.routes["GET /v1/device/desired"] = desired
    tiny.routes["POST /v1/device/messages"] = messages
    yield tiny
    tiny.close()


def desired(name: str, headers: dict[str, str], body: bytes) -> Answer:
    del body
    assert name == "dev1"
    if headers.get("if-none-match") == '"4"':
        return 304, {"etag": '"4"'}, b""
    return 200, {"etag": '"4"'}, DESIRED


def messages(name: str, headers: dict[str, str], body: bytes) -> Answer:
    assert (name, headers["content-type"]) == ("dev1", "application/msgpack")
    count = len(msgspec.msgpack.decode(body, type=list[bytes]))
    return 200, {}, msgspec.json.encode(DeviceMessagesReply(epoch=EPOCH, watermark=count, hub_s=HUB_S))


def exchange(tmp_path: Path, request: Request) -> Result:
    return asyncio.run(HttpsFallback(tmp_path / "state", timeout_s=30).exchange(request))


def test_messages_are_delivered_and_the_desired_state_is_fetched(hub: TinyHub, tmp_path: Path) -> None:
    result = exchange(tmp_path, Request(messages=[b"a", b"b"]))
    assert (result.epoch, result.watermark) == (EPOCH, 2)
    assert result.hub_s == HUB_S
    assert result.rtt_s is not None
    assert 0 < result.rtt_s < 60
    assert abs(result.wall_s - time.time()) < 120
    assert (result.desired, result.etag) == (DESIRED, '"4"')
    assert hub.seen[-1][0] == "dev1"


def test_an_unchanged_desired_state_is_not_fetched_again(hub: TinyHub, tmp_path: Path) -> None:
    result = exchange(tmp_path, Request(etag='"4"'))
    assert (result.desired, result.etag, result.epoch) == (None, '"4"', None)
    assert [line for _, line, _, _ in hub.seen][1:] == ["POST /v1/device/enrol", "GET /v1/device/desired"]


def test_what_the_hub_refuses_is_told(hub: TinyHub, tmp_path: Path) -> None:
    hub.routes["GET /v1/device/desired"] = lambda _name, _headers, _body: error(403, "device.revoked", "Revoked.")
    with pytest.raises(Unavailable, match=r"device.revoked"):
        exchange(tmp_path, Request())


def test_an_answer_without_end_is_cut_off(hub: TinyHub, tmp_path: Path) -> None:
    hub.routes["GET /v1/device/desired"] = lambda _name, _headers, _body: (200, {}, bytes(1 << 20))
    with pytest.raises(Unavailable, match=r"hub.too_large"):
        exchange(tmp_path, Request())


def test_no_network_at_all_is_told(hub: TinyHub, tmp_path: Path) -> None:
    hub.close()
    with pytest.raises(Unavailable, match=r"hub.unreachable"):
        exchange(tmp_path, Request())
