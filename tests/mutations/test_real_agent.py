"""Damaged documents offered to a real agent, one after the other: it serves, it answers, and then it updates."""

from __future__ import annotations

import random
from pathlib import Path

from agent.link.desired import DesiredStore
from shared.errors import SkerryError
from shared.wire.down import DesiredState, encode
from tests.mutations.damage import damaged
from tests.ota.conftest import bundle
from tests.ota.device import Device
from tests.ota.hub_sim import DEVICE, HubSim
from tests.trust_kit import TrustKit

DOCUMENTS = 150


async def test_a_stream_of_damaged_documents_installs_nothing_and_the_genuine_one_installs(tmp_path: Path) -> None:
    kit = TrustKit(tmp_path / "kit")
    kit.create_model("digits")
    for version in (1, 2):
        kit.approve("digits", version, bundle(version))
    first = kit.assignment(DEVICE, "digits", 1, counter=1, bake_s=0)
    second = kit.assignment(DEVICE, "digits", 2, counter=2, bake_s=0)
    genuine = encode(DesiredState(device_id=DEVICE, revision=1_000_000, assignments=[second]))
    envelope = kit.assignment("another", "digits", 2, counter=2, bake_s=0)
    original = encode(DesiredState(device_id=DEVICE, revision=7, assignments=[first, envelope]))
    with HubSim(kit, tmp_path / "hub").serve() as hub:
        device = Device(hub, tmp_path / "state")
        async with device.run() as installer:
            await device.assign(first)
            await device.until_state("committed", counter=1)
            store = DesiredStore(tmp_path / "desired", DEVICE)
            for index in range(DOCUMENTS):
                try:
                    desired = store.accept(damaged(original, random.Random(index)))
                except SkerryError as error:
                    assert "." in error.code
                    continue
                if desired is not None:
                    await installer.offer(desired)
                    assert device.serves() == 1
            await installer.offer(
                DesiredStore(tmp_path / "genuine", DEVICE).accept(genuine) or DesiredState(device_id=DEVICE, revision=0)
            )
            await device.until_state("committed", counter=2)
            assert device.serves() == 2
    kit.close()
