"""Whole installations against a real repository over HTTPS: the good way and the refusals."""

from __future__ import annotations

from collections.abc import Callable

from tests.ota.conftest import Release
from tests.ota.device import Device

Assign = Callable[..., bytes]
GOOD_WAY = [
    "assigned", "downloading", "verifying", "staged", "probing", "activating", "probation", "committed",
]  # fmt: skip


async def test_a_first_version_is_installed_and_serves(device: Device, release: Release, assign: Assign) -> None:
    content = release(1)
    async with device.run() as installer:
        await device.assign(assign(1, 1))
        status = await device.until_state("committed")
        assert (status.active_version, status.previous_version, status.assignment_counter) == (1, None, 1)
        assert device.serves() == 1
        assert device.states(1) == GOOD_WAY
        assert device.reports()[-1].bytes_downloaded == len(content)
        assert device.reports()[-1].active_version == 1
        assert [entry.state for entry in installer.history("digits")] == ["committed"]


async def test_the_real_children_install_and_probe(device: Device, release: Release, assign: Assign) -> None:
    device.in_process = False
    release(1)
    async with device.run():
        await device.assign(assign(1, 1))
        await device.until_state("committed")
        assert device.serves() == 1


async def test_a_second_version_replaces_the_first_and_keeps_it(
    device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    release(2)
    async with device.run():
        await device.assign(assign(1, 1))
        await device.until_state("committed", counter=1)
        await device.assign(assign(2, 2))
        status = await device.until_state("committed", counter=2)
        assert (status.active_version, status.previous_version) == (2, 1)
        assert device.serves() == 2
        slots = sorted(path.name for path in device.paths.model("digits").slots.iterdir() if path.is_dir())
        assert len(slots) == 2
        assert not list(device.paths.model("digits").download.iterdir())
