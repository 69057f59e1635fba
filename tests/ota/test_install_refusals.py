"""What must not be installed: each with the version before still serving, and the reason told once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from shared.bundle.manifest import Requirements
from shared.wire.down import Assignment
from tests.models import digits_bundle
from tests.ota.conftest import Release, bundle
from tests.ota.device import Device
from tests.ota.hub_sim import ARTEFACT, DEVICE, HubSim
from tests.trust_kit import KitVersion, TrustKit

Assign = Callable[..., bytes]


@asynccontextmanager
async def with_version_one(device: Device, release: Release, assign: Assign) -> AsyncIterator[None]:
    """A device on which version 1 is committed under counter 1."""
    release(1)
    async with device.run():
        await device.assign(assign(1, 1))
        await device.until_state("committed", counter=1)
        device.messages.clear()
        yield


async def refused_install(device: Device, envelope: bytes, counter: int = 2) -> str:
    """The reason with which the installation of an assignment ended, after the version before was seen serving."""
    await device.assign(envelope)
    await device.until_state("rolled_back", counter=counter)
    assert device.serves() == 1
    assert device.active().startswith("v1-")
    last = device.reports()[-1]
    assert (last.assignment_counter, last.active_version) == (counter, 1)
    assert [report.state for report in device.reports()].count("rolled_back") == 1
    return last.reason_code


async def refused_envelope(device: Device, envelope: bytes, code: str) -> None:
    """The envelope changes nothing but for an event with this code, once."""
    await device.assign(envelope)
    await device.until(lambda: code in device.events())
    await device.assign(envelope)
    await device.assign(envelope)
    assert device.events() == [code]
    assert not device.reports()
    status = device.installer.status()[0]
    assert (status.state, status.assignment_counter, device.serves()) == ("committed", 1, 1)


async def test_golden_outputs_that_differ(device: Device, release: Release, assign: Assign) -> None:
    release(3, broken=True)
    device.in_process = False
    async with with_version_one(device, release, assign):
        assert await refused_install(device, assign(3, 2)) == "probe.golden_mismatch"
        assert device.reports()[-2].state == "rolling_back"
        assert "golden outputs differ" in device.reports()[-1].reason


async def test_a_release_below_its_threshold(kit: TrustKit, device: Device, release: Release, assign: Assign) -> None:
    async with with_version_one(device, release, assign):
        kit.approve("digits", 2, bundle(2), signatures=1)
        assert await refused_install(device, assign(2, 2)) == "release.not_approved"


async def test_other_bytes_than_the_reviewers_signed(
    kit: TrustKit, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    digest = kit.blobs.put(bundle(3))
    async with with_version_one(device, release, assign):
        envelope = assign(2, 2, bundle=KitVersion(digest, len(bundle(3))))
        assert await refused_install(device, envelope) == "release.mismatch"


async def test_an_expired_assignment(device: Device, release: Release, assign: Assign) -> None:
    release(2)
    async with with_version_one(device, release, assign):
        assert await refused_install(device, assign(2, 2, lifetime_s=-1.0)) == "assignment.expired"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer"])
async def test_a_damaged_delivery(hub: HubSim, device: Device, release: Release, assign: Assign, damage: str) -> None:
    content = release(2)
    path = ARTEFACT + hashlib.sha256(content).hexdigest()
    hub.replace[path] = {
        "flipped": content[:999] + bytes([content[999] ^ 4]) + content[1000:],
        "truncated": content[:-512],
        "longer": content + bytes(512),
    }[damage]
    async with with_version_one(device, release, assign):
        code = await refused_install(device, assign(2, 2))
    expected = {"flipped": "download.digest_mismatch", "truncated": "hub.range", "longer": "download.too_large"}
    assert code == expected[damage]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (lambda: b"garbage" * 1000, "bundle.malformed"),
        (lambda: bundle(2)[:-1024], "bundle.truncated"),
        (lambda: bundle(2) + bytes(512), "bundle.trailing"),
        (lambda: bundle(1), "bundle.wrong_model"),
    ],
    ids=["no bundle", "truncated", "trailing", "another version"],
)
async def test_a_signed_archive_that_is_not_what_it_should_be(
    device: Device, release: Release, assign: Assign, content: Callable[[], bytes], code: str
) -> None:
    release(2, content=content())
    async with with_version_one(device, release, assign):
        found = await refused_install(device, assign(2, 2))
        assert found in (code, "bundle.too_large") if code == "bundle.truncated" else found == code


@pytest.mark.parametrize(
    ("requirements", "code"),
    [
        (Requirements(memory_bytes=1 << 50), "profile.memory"),
        (Requirements(ops={"FLUX_CAPACITOR": 1}), "profile.op_missing"),
        (Requirements(ops={"CONV_2D": 999}), "profile.op_version"),
    ],
)
async def test_a_version_that_this_class_of_device_cannot_run(
    device: Device, release: Release, assign: Assign, tmp_path: Any, requirements: Requirements, code: str
) -> None:
    digits_bundle(tmp_path / "b", 2, requirements=requirements)
    release(2, content=(tmp_path / "b").read_bytes())
    async with with_version_one(device, release, assign):
        assert await refused_install(device, assign(2, 2)) == code


async def test_a_version_that_is_too_slow(device: Device, release: Release, assign: Assign) -> None:
    release(2)
    device.in_process = False
    async with with_version_one(device, release, assign):
        pass
    device.profile = msgspec.structs.replace(device.profile, latency_p99_ms=1e-6)
    async with device.run():
        assert await refused_install(device, assign(2, 2)) == "probe.too_slow"


async def test_no_room_for_it(device: Device, release: Release, assign: Assign) -> None:
    release(2)
    async with with_version_one(device, release, assign):
        pass
    device.more["free_bytes"] = lambda path: 1000
    async with device.run():
        assert await refused_install(device, assign(2, 2)) == "storage.no_space"
        assert device.reports()[-1].attempt == device.settings.max_attempts


async def test_an_assignment_for_another_device(
    kit: TrustKit, device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    async with with_version_one(device, release, assign):
        await refused_envelope(device, kit.assignment("pi-2", "digits", 2, counter=2), "assignment.other_device")


async def test_an_assignment_by_a_stranger_or_damaged_on_the_way(
    device: Device, release: Release, assign: Assign
) -> None:
    release(2)
    async with with_version_one(device, release, assign):
        envelope = msgspec.json.decode(assign(2, 2))
        envelope["signatures"][0]["keyid"] = "0" * 64
        await refused_envelope(device, msgspec.json.encode(envelope), "dsse.unknown_key")
        device.messages.clear()
        signature = msgspec.json.decode(assign(1, 1))["signatures"]
        swapped = msgspec.json.decode(assign(2, 2)) | {"signatures": signature}
        await refused_envelope(device, msgspec.json.encode(swapped), "dsse.bad_signature")
        device.messages.clear()
        await refused_envelope(device, b'{"payload": "!', "assignment.malformed")


async def test_a_replayed_assignment(device: Device, release: Release, assign: Assign) -> None:
    release(2)
    old = assign(2, 1)
    async with with_version_one(device, release, assign):
        await refused_envelope(device, old, "assignment.replayed")


async def test_a_target_of_another_model(kit: TrustKit, device: Device, release: Release, assign: Assign) -> None:
    release(2)
    genuine = msgspec.json.decode(assign(2, 2))
    payload = Assignment(
        device_id=DEVICE,
        model="digits",
        version=2,
        counter=2,
        target="letters/2.bundle",
        bundle_sha256="ab" * 32,
        bundle_bytes=10,
        issued_s=kit.clock.now(),
        expires_s=kit.clock.now() + 60,
    )
    assert genuine
    async with with_version_one(device, release, assign):
        await refused_envelope(device, kit.repository.sign_assignment(payload), "assignment.target")


async def test_a_refused_version_is_not_tried_again_after_a_restart(
    device: Device, release: Release, assign: Assign
) -> None:
    envelope = assign_unreleased(device, assign)
    async with with_version_one(device, release, assign):
        assert await refused_install(device, envelope) == "release.not_approved"
        told = len(device.messages)
    async with device.run():
        await device.assign(envelope)
        await device.assign(envelope)
        assert device.serves() == 1
        assert len(device.messages) == told


def assign_unreleased(device: Device, assign: Assign) -> bytes:
    """An assignment of a version that nobody signed."""
    device.hub.kit.add_version("digits", 2, bundle(2))
    return assign(2, 2)
