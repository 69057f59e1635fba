"""Every broken delivery, on a real device with real children: what must never change, and what must be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.broken.deliveries import DELIVERIES, Delivery
from tests.models import load_digits
from tests.ota.conftest import bundle
from tests.ota.device import QUICK, Device
from tests.ota.hub_sim import ARTEFACT, DEVICE, HubSim
from tests.trust_kit import TrustKit

MODEL = "digits"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[TrustKit]:
    made = TrustKit(tmp_path / "kit")
    made.create_model(MODEL)
    yield made
    made.close()


@pytest.fixture
def hub(kit: TrustKit, tmp_path: Path) -> Iterator[HubSim]:
    with HubSim(kit, tmp_path / "hub").serve() as running:
        yield running


def answers(device: Device) -> Callable[[], bool]:
    """Whether the device still answers exactly as it does now."""
    before = device.host.predict(MODEL, load_digits().test_x[:32])
    return lambda: bool(np.array_equal(device.host.predict(MODEL, load_digits().test_x[:32]), before))


async def install(device: Device, kit: TrustKit, version: int, counter: int) -> None:
    """A good version, by the code of the workers in this process, because only the broken one is of interest."""
    kit.approve(MODEL, version, bundle(version))
    await device.assign(kit.assignment(DEVICE, MODEL, version, counter=counter, bake_s=0))
    await device.until_state("committed", counter=counter)
    assert device.serves() == version


async def offer(device: Device, delivery: Delivery, envelope: bytes) -> str:
    """The code with which the device refuses it, after three offers."""
    for _ in range(3):
        await device.assign(envelope)
        if delivery.installs:
            await device.until_state("rolled_back", counter=2)
        else:
            await device.until(lambda: device.events())
    if not delivery.installs:
        assert len(device.events()) == 1
        return device.events()[0]
    endings = [report for report in device.reports() if report.state == "rolled_back"]
    assert len(endings) == 1
    assert endings[0].active_version == 1
    assert endings[0].reason
    assert endings[0].attempt <= device.settings.max_attempts
    return endings[0].reason_code


@pytest.mark.parametrize("delivery", DELIVERIES, ids=lambda delivery: delivery.name)
async def test_a_broken_delivery_changes_nothing_is_explained_once_and_the_next_good_one_installs(
    delivery: Delivery, kit: TrustKit, hub: HubSim, tmp_path: Path
) -> None:
    device = Device(hub, tmp_path / "state")
    async with device.run():
        await install(device, kit, 1, 1)
    device.messages.clear()
    envelope = delivery.deliver(kit, hub)
    usual = device.profile
    device.in_process = False
    device.settings = msgspec.structs.replace(QUICK, **delivery.settings)
    device.profile = msgspec.structs.replace(usual, **delivery.profile)
    async with device.run():
        unchanged = answers(device)
        assert await offer(device, delivery, envelope) in delivery.codes
        assert (device.serves(), device.active()[:3], unchanged()) == (1, "v1-", True)
    downloads, told = len(hub.asked(ARTEFACT)), len(device.messages)
    async with device.run():
        await device.assign(envelope)
        assert (device.serves(), unchanged()) == (1, True)
    if delivery.installs:
        assert (len(hub.asked(ARTEFACT)), len(device.messages)) == (downloads, told)
    if delivery.codes == ("release.not_approved",):
        kit.repository.withdraw(f"model-{MODEL}", "kit")  # another release may be staged only then
    device.profile, device.settings, device.in_process = usual, QUICK, True
    async with device.run():
        await install(device, kit, 4, 4)
