"""The power goes right after each write of the journal, and the next start converges; so it does after a second cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.ota import journal as journals
from agent.ota.journal import Journal
from tests.ota.conftest import Release
from tests.ota.device import Device, PowerCut
from tests.ota.hub_sim import ARTEFACT, Fault, HubSim

Assign = Callable[..., bytes]
STATES = [
    "assigned", "downloading", "verifying", "staged", "probing", "activating", "probation", "committed",
]  # fmt: skip


async def life(device: Device, envelope: bytes, counter: int, *ends: str) -> bool:
    """One life of the agent; whether it came to rest in one of `ends` before the power went."""
    try:
        async with device.run():
            await device.assign(envelope)
            await device.until_state(*ends, counter=counter)
            return True
    except PowerCut:
        return False
    except BaseExceptionGroup as group:
        if group.split(PowerCut)[1] is not None:
            raise
        return False


def cut_after(device: Device, state: str, nth: int = 1) -> None:
    """Cut the power after the nth write of the journal in this state."""
    seen = [0]

    def cut(journal: Journal) -> bool:
        seen[0] += journal.state == state
        return journal.state == state and seen[0] == nth

    device.cut = cut


async def install(device: Device, release: Release, assign: Assign, version: int) -> None:
    release(version)
    assert await life(device, assign(version, version), version, "committed")


@pytest.mark.parametrize("state", STATES)
async def test_a_cut_in_any_state_of_an_update_converges(
    device: Device, release: Release, assign: Assign, state: str
) -> None:
    await install(device, release, assign, 1)
    release(2)
    cut_after(device, state)
    assert not await life(device, assign(2, 2), 2, "committed")
    assert device.active().startswith(("v1-", "v2-"))
    device.cut = lambda journal: False
    assert await life(device, assign(2, 2), 2, "committed")
    async with device.run():
        await device.until_state("committed")
        assert device.serves() == 2
    assert device.states(2)[-1] == "committed"
    assert device.states(2).count("committed") == 1


@pytest.mark.parametrize("state", STATES)
async def test_a_cut_in_any_state_of_a_first_installation_converges(
    device: Device, release: Release, assign: Assign, state: str
) -> None:
    release(1)
    cut_after(device, state)
    assert not await life(device, assign(1, 1), 1, "committed")
    device.cut = lambda journal: False
    assert await life(device, assign(1, 1), 1, "committed")


@pytest.mark.parametrize("state", STATES[:-1])
async def test_a_second_cut_in_the_same_state_converges_too(
    device: Device, release: Release, assign: Assign, state: str
) -> None:
    await install(device, release, assign, 1)
    release(2)
    envelope = assign(2, 2)
    for _ in range(2):
        cut_after(device, state)
        assert not await life(device, envelope, 2, "committed")
    device.cut = lambda journal: False
    assert await life(device, envelope, 2, "committed")


@pytest.mark.parametrize("state", ["rolling_back", "rolled_back"])
async def test_a_cut_on_the_way_back_still_comes_back(
    device: Device, release: Release, assign: Assign, state: str
) -> None:
    await install(device, release, assign, 1)
    device.hub.kit.add_version("digits", 2, b"never approved")
    envelope = assign(2, 2)
    cut_after(device, state)
    assert not await life(device, envelope, 2, "rolled_back")
    device.cut = lambda journal: False
    assert await life(device, envelope, 2, "rolled_back")
    async with device.run():
        assert device.serves() == 1
    assert device.reports()[-1].reason_code == "release.not_approved"


async def test_a_refusal_is_not_forgotten_by_a_cut_even_when_the_version_is_on_the_disk(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    envelope = assign(1, 3, lifetime_s=-1.0)
    for state in ("assigned", "rolling_back"):
        cut_after(device, state)
        assert not await life(device, envelope, 3, "rolled_back")
    device.cut = lambda journal: False
    assert await life(device, envelope, 3, "rolled_back")
    assert (device.reports()[-1].reason_code, device.reports()[-1].active_version) == ("assignment.expired", 2)


async def test_a_download_after_a_restart_is_checked_again(device: Device, release: Release, assign: Assign) -> None:
    release(1)
    cut_after(device, "downloading")
    assert not await life(device, assign(1, 1), 1, "committed")
    device.hub.requests.clear()
    device.cut = lambda journal: False
    assert await life(device, assign(1, 1), 1, "committed")
    assert device.hub.asked("/v1/tuf/timestamp.json")


@pytest.mark.parametrize("state", ["activating", "probation"])
async def test_a_crash_loop_of_a_new_version_ends_in_the_previous_one(
    device: Device, release: Release, assign: Assign, state: str
) -> None:
    await install(device, release, assign, 1)
    release(2)
    envelope = assign(2, 2, bake_s=3600)
    lives = 0
    device.cut = lambda journal: journal.state == state
    while not await life(device, envelope, 2, "rolled_back"):
        lives += 1
        assert lives < 6
    assert lives == 3
    async with device.run():
        assert device.serves() == 1
    assert device.reports()[-1].state == "rolled_back"
    assert device.reports()[-1].reason_code in ("install.crash_loop", "probation.crash_loop")


async def test_orderly_stops_are_no_crash_loop(device: Device, release: Release, assign: Assign) -> None:
    await install(device, release, assign, 1)
    release(2)
    for _ in range(5):
        async with device.run() as installer:
            await device.assign(assign(2, 2, bake_s=3600))
            await device.until(lambda: installer.status()[0].state == "probation")
            assert device.serves() == 2


async def test_a_committed_version_that_keeps_crashing_the_agent_gives_way(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    device.cut = lambda journal: journal.state == "committed" and journal.restarts > 0
    lives = 0
    while lives < 10:
        lives += 1
        try:
            async with device.run():
                await device.until_state("rolled_back")
                assert device.serves() == 1
                break
        except PowerCut:
            continue
    assert lives == 6
    assert device.reports()[-1].reason_code == "install.crash_loop"


async def test_an_interrupted_download_goes_on_after_a_restart(
    hub: HubSim, device: Device, release: Release, assign: Assign
) -> None:
    content = release(1)
    hub.faults = [Fault(drop_after=20_000), Fault(status=503, times=2)]
    device.cut = lambda journal: journal.state == "assigned" and journal.attempt == 1
    assert not await life(device, assign(1, 1), 1, "committed")
    device.cut = lambda journal: False
    assert await life(device, assign(1, 1), 1, "committed")
    assert hub.asked()[-1].range == "bytes=20000-"
    assert device.reports()[-1].bytes_downloaded == len(content) - 20_000
    assert hub.asked(ARTEFACT)


@pytest.mark.parametrize("victim", ["slot", "pointer", "pointer torn", "record"])
async def test_damage_to_the_active_version_is_found_at_the_start(
    device: Device, release: Release, assign: Assign, victim: str
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    paths = device.paths.model("digits")
    slot = device.active()
    spoilt: dict[str, Callable[[], object]] = {
        "slot": lambda: flip(next((paths.slots / slot).rglob("*.tflite"))),
        "record": lambda: flip(paths.slots / f"{slot}.json"),
        "pointer": paths.current.unlink,
        "pointer torn": lambda: paths.current.write_bytes(b"\x00\x00"),
    }
    spoilt[victim]()
    async with device.run():
        await device.until_state("rolled_back")
        served = device.serves()
        assert served == (1 if victim in ("slot", "record") else 2) or victim.startswith("pointer")
        assert device.active().startswith(f"v{served}-")
    assert device.reports()[-1].active_version == served


async def test_a_damaged_only_version_leaves_the_device_inconsistent_until_the_next_assignment(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    flip(next((device.paths.model("digits").slots / device.active()).rglob("*.tflite")))
    async with device.run():
        await device.until_state("inconsistent")
        assert device.serves() == 0
        await device.assign(assign(1, 2))
        await device.until_state("committed", counter=2)
        assert device.serves() == 1


@pytest.mark.parametrize("content", [b"", b"torn {", b'{"body": {"model": "digits", "state": "unknown"}}'])
async def test_a_damaged_journal_keeps_the_committed_version_and_the_floor(
    device: Device, release: Release, assign: Assign, content: bytes
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    old = assign(1, 1)
    device.paths.model("digits").journal.write_bytes(content)
    async with device.run() as installer:
        await device.until(lambda: installer.status()[0].state == "rolled_back")
        assert device.serves() == 2
        assert installer.status()[0].assignment_counter == 2
        await device.assign(old)
        await device.until(lambda: {"assignment.replayed", "journal.damaged"} <= set(device.events()))
        assert len(device.events()) == 2


async def test_a_damaged_journal_on_probation_returns_to_the_proven_version(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    release(2)
    cut_after(device, "probation")
    assert not await life(device, assign(2, 2, bake_s=3600), 2, "committed")
    device.cut = lambda journal: False
    device.paths.model("digits").journal.write_bytes(b"torn")
    async with device.run() as installer:
        await device.until(lambda: installer.status()[0].state == "rolled_back")
        assert device.serves() == 1


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


async def crash_late(device: Device, envelope: bytes, times: int) -> int:
    """Lives that end without order, each after the agent counted as stable; how many it took to roll back."""
    device.settings = msgspec.structs.replace(device.settings, stable_s=0.01, checkpoint_s=0.05)
    seen = [0]

    def cut(journal: Journal) -> bool:
        seen[0] += 1
        return journal.state == "probation" and journal.restarts == 0 and seen[0] > 1

    device.cut = cut
    for lives in range(times):
        seen[0] = 0
        if await life(device, envelope, 2, "rolled_back"):
            return lives
    return times


async def test_an_agent_that_crashes_now_and_then_during_a_long_probation_rolls_back(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    release(2)
    assert await crash_late(device, assign(2, 2, bake_s=3600), 9) == 4
    assert (device.reports()[-1].state, device.reports()[-1].reason_code) == ("rolled_back", "probation.crash_loop")
    async with device.run():
        assert device.serves() == 1


async def test_orderly_restarts_and_starts_of_the_machine_are_no_crashes(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    release(2)
    envelope = assign(2, 2, bake_s=3600)
    for _ in range(6):
        assert await life(device, envelope, 2, "probation")
    for number in range(6):
        journal = journals.load(device.paths.model("digits").journal, "digits")
        journals.save(device.paths.model("digits").journal, msgspec.structs.replace(journal, boot=f"{number}"))
        assert await crash_late(device, envelope, 1) == 1
    assert journals.load(device.paths.model("digits").journal, "digits").crashes == 0
