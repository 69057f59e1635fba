"""Installing from a folder that a person brought: what the hub's way would refuse is refused here, and nothing is lost.

The folder is the kit's own export; the hub answers every request with 503, so that nothing can come from it by chance.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.ota.folder_source import FolderSource
from agent.ota.journal import Journal
from agent.ota.offline import FolderOffer
from agent.ota.worker import Worker
from agent.ota.worker_protocol import Check, Checked, Failed
from shared.errors import NotFound, SkerryError
from tests.ota.conftest import Release, bundle
from tests.ota.device import QUICK, Device, PowerCut
from tests.ota.hub_sim import DEVICE, Fault, HubSim
from tests.ota.repository import FixedClock
from tests.trust_kit import DAY_S, TrustKit

Assign = Callable[..., bytes]


@dataclass
class Stick:
    """An export of the kit's repository, and assignments in it."""

    kit: TrustKit
    folder: Path
    made: list[Path] = field(default_factory=list)

    def export(self) -> Stick:
        assert self.kit.repository.export(self.folder) == []
        return self

    def put(self, envelope: bytes, device: str = DEVICE, model: str = "digits") -> None:
        path = self.folder / "assignments" / device / f"{model}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(envelope)

    def file(self, pattern: str) -> Path:
        found = sorted(self.folder.glob(pattern))
        assert found, pattern
        return found[-1]


@pytest.fixture
def stick(kit: TrustKit, tmp_path: Path) -> Stick:
    return Stick(kit, tmp_path / "stick")


@pytest.fixture
def away(hub: HubSim) -> HubSim:
    """The hub cannot be reached."""
    hub.faults.append(Fault(path="/", status=503, times=1 << 30))
    return hub


async def offer(device: Device, stick: Stick) -> FolderOffer:
    found = await device.installer.install_folder(str(stick.folder))
    assert len(found) == 1
    return found[0]


def code(found: FolderOffer) -> str:
    assert found.outcome == "refused"
    assert found.error is not None
    return found.error.code


async def test_a_good_folder_installs_and_the_hub_is_not_asked(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    stick.export().put(assign(2, 1))
    async with device.run():
        assert (await offer(device, stick)).outcome == "accepted"
        await device.until_state("committed", counter=1)
        assert device.serves() == 2
    assert away.requests == []
    assert device.states(1)[-1] == "committed"
    assert device.reports()[-1].bytes_downloaded == 0


async def test_a_folder_that_is_used_twice_changes_nothing(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    stick.export().put(assign(2, 1))
    async with device.run():
        await offer(device, stick)
        await device.until_state("committed", counter=1)
        told = len(device.messages)
        assert (await offer(device, stick)).outcome == "known"
        assert len(device.messages) == told


async def test_a_damaged_bundle_is_refused_and_the_repaired_folder_installs(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    stick.export().put(assign(1, 1))
    async with device.run():
        await offer(device, stick)
        await device.until_state("committed", counter=1)
        release(2)
        stick.export().put(assign(2, 2))
        path = stick.file("targets/digits/*.2.bundle")
        whole = path.read_bytes()
        for broken in (whole[:-1], whole + b"\0", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b""):
            path.write_bytes(broken)
            assert code(await offer(device, stick)) == "download.digest_mismatch"
            assert device.serves() == 1
        path.unlink()
        assert code(await offer(device, stick)) == "install.no_bundle"
        assert device.events().count("download.digest_mismatch") == 4, "the hub will be told"
        path.write_bytes(whole)
        assert (await offer(device, stick)).outcome == "accepted"
        await device.until_state("committed", counter=2)
        assert device.serves() == 2


@pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "model-digits"])
async def test_changed_metadata_is_refused(
    name: str, stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    stick.export().put(assign(2, 1))
    path = stick.file(f"metadata/*{name}.json")
    changed = path.read_bytes().replace(b'"expires":"20', b'"expires":"30')
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    async with device.run():
        assert code(await offer(device, stick)).startswith(("trust.", "release."))
        assert device.serves() == 0


async def test_a_changed_assignment_is_refused(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    stick.export().put(assign(2, 1).replace(b'"sig":"', b'"sig":"AAAA'))
    async with device.run():
        assert code(await offer(device, stick)) == "dsse.bad_signature"


async def test_an_under_signed_release_is_refused_from_a_folder_too(
    stick: Stick, away: HubSim, device: Device, kit: TrustKit, release: Release, assign: Assign
) -> None:
    release(1)
    kit.approve("digits", 2, bundle(2), signatures=1)
    stick.export().put(assign(2, 1))
    async with device.run():
        assert code(await offer(device, stick)) == "release.not_approved"


async def test_a_folder_for_another_device_is_refused(
    stick: Stick, away: HubSim, device: Device, kit: TrustKit, release: Release
) -> None:
    release(2)
    theirs = kit.assignment("pi-2", "digits", 2, counter=1)
    stick.export().put(theirs, device="pi-2")
    async with device.run():
        with pytest.raises(SkerryError) as caught:
            await offer(device, stick)
        assert caught.value.code == "install.no_assignment"
        assert "it has some for pi-2" in caught.value.message
        stick.put(theirs)
        assert code(await offer(device, stick)) == "assignment.other_device"
        assert device.serves() == 0


async def test_a_folder_older_than_what_the_device_has_seen_is_a_rollback(
    stick: Stick, hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    stick.export().put(assign(1, 2))
    release(2)
    async with device.run():
        await device.assign(assign(2, 1))
        await device.until_state("committed", counter=1)
        assert code(await offer(device, stick)) == "trust.rollback"
        assert device.serves() == 2


async def test_an_old_assignment_in_a_new_folder_is_a_replay(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    stick.export().put(assign(2, 5))
    async with device.run():
        await offer(device, stick)
        await device.until_state("committed", counter=5)
        stick.put(assign(1, 5))
        assert code(await offer(device, stick)) == "assignment.replayed"
        assert device.serves() == 2


def _ask(device: Device, stick: Stick, envelope: bytes, now_s: float) -> Checked | str:
    worker = Worker(device.paths, QUICK, io.BytesIO(), FixedClock(now_s))
    reply = worker.answer(Check(envelope=envelope, floors={}, folder=str(stick.folder)))
    if isinstance(reply, Failed):
        return reply.error.code
    assert isinstance(reply, Checked)
    return reply.refusal.code if reply.refusal is not None else reply


def test_a_clock_in_1970_takes_a_fresh_folder_and_refuses_an_expired_one(
    stick: Stick, device: Device, kit: TrustKit, release: Release, assign: Assign
) -> None:
    release(1)
    stick.export()
    assert isinstance(_ask(device, stick, assign(1, 1), now_s=60.0), Checked), "1970 blocks nobody"
    later = kit.clock.now() + 3 * DAY_S
    assert _ask(device, stick, assign(1, 1), later) == "trust.expired", "the timestamp lives for a day"
    kit.clock.time_s = later
    kit.repository.refresh_online(later)
    stick.export()
    assert isinstance(_ask(device, stick, assign(1, 2), later), Checked)
    shutil.rmtree(stick.folder / "metadata")
    kit.clock.time_s = later + 3 * DAY_S
    kit.repository.refresh_online(kit.clock.now())
    stick.export()
    assert isinstance(_ask(device, stick, assign(1, 3), kit.clock.now()), Checked)
    kit.clock.time_s -= 2 * DAY_S
    old = kit.assignment(DEVICE, "digits", 1, counter=4, lifetime_s=DAY_S)
    said = _ask(device, stick, old, now_s=60.0)
    assert said == "assignment.expired", "the floor of the time stays when the clock is lost"


async def test_after_a_power_cut_the_folder_goes_on_and_without_it_the_hub(
    stick: Stick, hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    stick.export().put(assign(2, 1))
    device.cut = lambda journal: journal.state == "downloading"

    async def until_the_cut() -> None:
        async with device.run():
            await offer(device, stick)
            await device.until(lambda: False)

    with pytest.raises((PowerCut, BaseExceptionGroup)):
        await until_the_cut()
    device.cut = _never
    shutil.rmtree(stick.folder)
    async with device.run():
        await device.until_state("committed", counter=1)
        assert device.serves() == 2
    assert hub.asked(), "the stick is gone: the bundle came from the hub"


def _never(journal: Journal) -> bool:
    return False


async def test_a_kept_document_that_is_older_neither_ends_it_nor_raises_an_alarm(
    stick: Stick, away: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    first = assign(1, 1)
    stick.export().put(assign(2, 2))
    async with device.run():
        await offer(device, stick)
        await device.assign()  # a document that does not know the model
        await device.until_state("committed", counter=2)
        await device.assign(first)
        await device.installer.install_folder(str(stick.folder))
        assert device.serves() == 2
    assert "assignment.replayed" not in device.events()


def test_pipes_and_links_in_the_folder_are_not_read(stick: Stick, tmp_path: Path) -> None:
    (stick.folder / "metadata").mkdir(parents=True)
    (tmp_path / "secret").write_text("{}")
    os.mkfifo(stick.folder / "metadata" / "1.root.json")
    os.symlink(tmp_path / "secret", stick.folder / "metadata" / "2.root.json")
    source = FolderSource(stick.folder)
    for name, expected in (("1.root.json", "install.not_a_file"), ("2.root.json", "install.unreadable")):
        with pytest.raises(SkerryError) as caught:
            source.get(name, 100)
        assert caught.value.code == expected
    for name in ("../secret", "targets/../../secret", "..%2f..%2fsecret", "targets//x", ""):
        with pytest.raises(NotFound):
            source.get(name, 100)


async def test_a_folder_that_is_none_is_said_so(device: Device, tmp_path: Path) -> None:
    async with device.run() as installer:
        with pytest.raises(SkerryError) as caught:
            await installer.install_folder(str(tmp_path))
        assert caught.value.code == "install.no_folder"
        with pytest.raises(SkerryError) as caught:
            await installer.install_folder("relative/path")
        assert caught.value.code == "install.path"
