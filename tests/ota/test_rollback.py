"""Rollbacks that a person asks for: without network, never back to what was left, and what is left as a last resort."""

from __future__ import annotations

import pytest

from shared.errors import SkerryError
from tests.ota.conftest import Release
from tests.ota.device import Device
from tests.ota.hub_sim import HubSim
from tests.ota.test_install_events import Assign, committed, state_of


async def test_a_person_rolls_back_without_network(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    envelope = assign(2, 2)
    async with device.run():
        await committed(device, assign(1, 1), 1)
        await committed(device, envelope, 2)
    requests = len(hub.requests)
    async with device.run() as installer:
        status = await installer.rollback("digits")
        assert (status.state, status.active_version, device.serves()) == ("rolled_back", 1, 1)
        assert device.reports()[-1].event == "succeeded"
        assert device.reports()[-1].reason_code == "rollback.requested"
        await device.assign(envelope)
        with pytest.raises(SkerryError) as caught:
            await installer.rollback("digits")
        assert caught.value.code == "rollback.no_previous"  # never back to what the person left
        assert device.serves() == 1
    assert len(hub.requests) == requests


async def test_a_person_rolls_back_after_the_next_version_was_refused(
    device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    release(3, broken=True)
    device.in_process = False
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        await committed(device, assign(2, 2), 2)
        await device.assign(assign(3, 3))
        await device.until(lambda: state_of(installer) == "rolled_back")
        assert (await installer.rollback("digits")).active_version == 1
        assert device.serves() == 1
        await device.until(lambda: device.reports()[-1].reason_code == "rollback.requested")


async def test_a_version_that_was_left_is_a_last_resort(device: Device, release: Release, assign: Assign) -> None:
    release(1)
    release(2)
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        await committed(device, assign(2, 2), 2)
        await installer.rollback("digits")
    one = next(device.paths.model("digits").slots.glob("v1-*[0-9a-f]"))
    (one / "model.tflite").write_bytes(b"rot")
    async with device.run():
        await device.until(lambda: device.serves() == 2)


async def test_there_is_nothing_to_roll_back_to(device: Device, release: Release, assign: Assign) -> None:
    release(1)
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        for model, code in [("digits", "rollback.no_previous"), ("nobody", "rollback.no_model")]:
            with pytest.raises(SkerryError) as caught:
                await installer.rollback(model)
            assert caught.value.code == code
        assert device.serves() == 1


async def test_a_rollback_ends_a_probation(device: Device, release: Release, assign: Assign) -> None:
    release(1)
    release(2)
    async with device.run() as installer:
        await committed(device, assign(1, 1), 1)
        await device.assign(assign(2, 2, bake_s=3600))
        await device.until(lambda: device.serves() == 2 and state_of(installer) == "probation")
        assert (await installer.rollback("digits")).active_version == 1
        assert device.serves() == 1
