"""What the cuts and the failing calls found once, each as the smallest story that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.identity.enrol import Wish, enrol
from agent.identity.store import IdentityStore
from agent.ota import journal
from agent.ota.ports import Message
from agent.paths import AgentPaths
from shared.errors import StorageFailure, Unavailable
from tests.agent_identity.conftest import hub as identity_hub
from tests.agent_identity.tiny_hub import TinyHub
from tests.ota.conftest import Release, assign, device, hub, kit, release
from tests.ota.device import Device
from tests.ota.test_install_restarts import Assign, cut_after, install, life

__all__ = ["assign", "device", "hub", "identity_hub", "kit", "release"]


async def test_an_end_that_never_reached_the_disk_is_reported_again(
    device: Device, release: Release, assign: Assign
) -> None:
    async def refuse(_message: Message) -> None:
        raise Unavailable("outbox.busy", "The outbox cannot write fast enough.", retriable=True)

    device.more["keep"] = refuse
    release(1)
    path = device.paths.model("digits").journal
    async with device.run() as installer:
        await device.assign(assign(1, 1))
        await device.until(lambda: [found.state for found in installer.status()] == ["committed"])
    assert not journal.load(path, "digits").reported
    assert "committed" not in device.states(1)
    device.more.clear()
    async with device.run():
        await device.until(lambda: journal.load(path, "digits").reported)
    assert device.states(1)[-1] == "committed"


async def test_a_way_back_that_was_cut_serves_from_the_start(device: Device, release: Release, assign: Assign) -> None:
    await install(device, release, assign, 1)
    release(2, broken=True)
    cut_after(device, "rolling_back")
    device.in_process = False
    assert not await life(device, assign(2, 2), 2, "rolled_back")
    device.cut = lambda journal: False
    async with device.run():
        assert device.serves() == 1  # nothing of the installer's loop has run yet


async def test_a_version_that_could_not_be_read_for_a_moment_serves_again(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    file = next((device.paths.model("digits").slots / device.active()).glob("*.tflite"))
    content = file.read_bytes()
    file.write_bytes(b"what a failing disk reads")
    async with device.run():
        await device.until_state("inconsistent")
    file.write_bytes(content)
    async with device.run():
        assert device.serves() == 1
        await device.until_state("rolled_back")


@pytest.mark.parametrize("what", ["the record", "a file"])
async def test_a_disk_that_cannot_be_read_never_costs_the_pointer(
    device: Device, release: Release, assign: Assign, what: str
) -> None:
    """Random read errors hit record and file of the only version within one start; it looked like none to return to."""
    await install(device, release, assign, 1)
    slot = device.paths.model("digits").slots / device.active()
    files = [next(slot.glob("*.tflite")), *([slot.with_name(f"{slot.name}.json")] if what == "the record" else [])]
    kept = [file.read_bytes() for file in files]
    for file in files:
        file.write_bytes(b"what a failing disk reads")
    async with device.run():
        await device.until_state("inconsistent")
    assert device.active() == slot.name
    for file, content in zip(files, kept, strict=True):
        file.write_bytes(content)
    async with device.run():
        assert device.serves() == 1


async def test_a_disk_that_reads_again_after_a_moment_needs_no_restart(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    file = next((device.paths.model("digits").slots / device.active()).glob("*.tflite"))
    content = file.read_bytes()
    file.write_bytes(b"what a failing disk reads")

    def mended() -> bool:
        if device.events().count("slot.damaged") == 2:  # at the start, and at the first attempt to return
            file.write_bytes(content)
        return device.serves() == 1

    async with device.run():
        assert device.serves() == 0
        await device.until(mended)
        await device.until_state("rolled_back")


def test_an_enrolment_that_is_cut_at_its_end_goes_on_with_the_same_key(identity_hub: TinyHub, tmp_path: Path) -> None:
    paths = AgentPaths(tmp_path / "state")
    store = IdentityStore(paths.identity)
    obstacle = paths.identity / "identity.json"
    obstacle.mkdir(parents=True)
    wish = Wish(profile="x86-gateway", device_id="pi-1", replace=True)
    with pytest.raises(StorageFailure):
        enrol(paths, identity_hub.join(), wish)
    key = store.pending_key.read_bytes()
    obstacle.rmdir()
    identity_hub.tokens.add("ske_good")
    enrol(paths, identity_hub.join(), wish)
    assert (paths.identity / "device.key").read_bytes() == key
