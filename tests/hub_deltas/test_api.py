"""Deltas over the hub's real HTTPS: offered, waited for, fetched in ranges, by the device that they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from shared import limits
from shared.delta.apply import apply_delta
from shared.delta.format import Pair
from shared.delta.source import ArchiveFile
from shared.wire.up import Envelope, InstallReport, encode_body, encode_envelope
from tests.hub_kit import HubKit, KitDevice
from tests.registry_kit import Flow, released_hub

EPOCH = "0" * 15 + "1"


@dataclass(frozen=True)
class World:
    """pi-1 serves version 1 of digits and is assigned version 2; pi-2 has nothing."""

    flow: Flow
    pi: KitDevice
    other: KitDevice
    old: Path
    new: Path

    @property
    def kit(self) -> HubKit:
        return self.flow.kit

    @property
    def address(self) -> str:
        return f"/v1/deltas/{sha256(self.new)}"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def serves_one(kit: HubKit, pi: KitDevice, bundle: Path) -> None:
    """The device says that it has installed version 1."""
    report = InstallReport(
        model="digits",
        version=1,
        bundle_sha256=sha256(bundle),
        assignment_counter=1,
        previous="probation",
        state="committed",
        event="succeeded",
        active_version=1,
        bytes_downloaded=bundle.stat().st_size,
    )
    envelope = Envelope(
        device_id=pi.device_id,
        epoch=EPOCH,
        first_seq=1,
        seq=1,
        created_s=kit.clock.now(),
        kind="install",
        body=encode_body(report),
    )
    body = msgspec.msgpack.encode([encode_envelope(envelope)])
    pi.client.post("/v1/device/messages", content=body).raise_for_status()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with released_hub(tmp_path_factory.mktemp("hub")) as flow:
        flow.create_model("digits")
        pi, other = flow.kit.enrol("pi-1"), flow.kit.enrol("pi-2")
        for version in (1, 2):
            flow.digits(version, seed=1).raise_for_status()
        dataset = flow.put_dataset()
        for version in (1, 2):
            flow.gate("digits", version, dataset)
            flow.approve("digits", version)
        flow.deploy("digits", 1, "id==pi-1").raise_for_status()
        old, new = (flow.kit.folder / f"digits-{version}.bundle" for version in (1, 2))
        serves_one(flow.kit, pi, old)
        flow.deploy("digits", 2, "id==pi-1").raise_for_status()
        yield World(flow, pi, other, old, new)


def test_a_delta_is_offered_fetched_in_parts_and_gives_the_bundle(world: World) -> None:
    asked = world.pi.client.get(world.address, params={"from": sha256(world.old)})
    assert asked.status_code == 202
    assert asked.headers["retry-after"] == "1"
    assert world.kit.hub.deltas.make_next()
    offer = world.pi.client.get(world.address, params={"from": [sha256(world.old), "0" * 64]}).json()
    assert offer["from_sha256"] == sha256(world.old)
    assert offer["bytes"] * 100 < world.new.stat().st_size * limits.MAX_DELTA_PERCENT
    address = f"{world.address}/{sha256(world.old)}"
    first = world.pi.client.get(address, headers={"range": "bytes=0-99"})
    assert first.status_code == 206
    rest = world.pi.client.get(address, headers={"range": "bytes=100-", "if-range": first.headers["etag"]})
    assert rest.status_code == 206
    data = first.content + rest.content
    assert hashlib.sha256(data).hexdigest() == offer["sha256"] == first.headers["etag"].strip('"')
    pair = Pair(
        from_sha256=sha256(world.old),
        from_bytes=world.old.stat().st_size,
        to_sha256=sha256(world.new),
        to_bytes=world.new.stat().st_size,
    )
    out, delta = bytearray(), world.kit.folder / "delta"
    delta.write_bytes(data)
    with delta.open("rb") as stream, ArchiveFile(world.old) as old:
        apply_delta(stream, old, out.extend, pair)
    assert bytes(out) == world.new.read_bytes()


def test_another_device_gets_neither_offer_nor_bytes(world: World) -> None:
    for path in (f"{world.address}?from={sha256(world.old)}", f"{world.address}/{sha256(world.old)}"):
        answer = world.other.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "delta.none")


@pytest.mark.parametrize("query", ["", "?from=nonsense", "?" + "&".join(["from=" + "1" * 64] * 5)])
def test_a_malformed_question_is_refused(world: World, query: str) -> None:
    answer = world.pi.client.get(world.address + query)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"]


def test_the_deployment_shows_what_was_downloaded(world: World) -> None:
    deployments = world.flow.admin.get("/v1/deployments").json()["items"]
    detail = world.flow.admin.get(f"/v1/deployments/{deployments[0]['deployment_id']}").json()
    assert detail["downloads"] == {"devices": 0, "bytes": 0, "whole_bytes": 0}
