"""What is ready and must not be active: windows, versions that are held back, and power cuts while they wait."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ota.machine import MAX_COMMITTED_RESTARTS, MAX_STEPS
from agent.ota.waiting import waiting, window_of
from agent.ota.zone import device_zone
from shared.clock import SystemClock
from shared.errors import InvalidInput
from shared.profiles import MaintenanceWindow
from shared.wire.down import CONDITIONAL_SCHEMA, Assignment, Mode, ShadowRun, Window
from tests.ota.conftest import Release
from tests.ota.device import QUICK, Device
from tests.ota.test_install_restarts import Assign, cut_after, install, life

PARIS = ZoneInfo("Europe/Paris")
NIGHTLY = Window(cron="30 2 * * *", duration_s=3600, timezone="Europe/Paris")


def at(text: str, zone: ZoneInfo = PARIS, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@dataclass
class SetClock:
    """A clock that a test sets; the monotonic one runs."""

    at_s: float

    def now(self) -> float:
        return self.at_s

    def monotonic(self) -> float:
        return SystemClock().monotonic()


def window_around(now_s: float, *, opens_in_s: float) -> Window:
    """A daily window that opens so many seconds after `now_s`, for two hours."""
    start = datetime.fromtimestamp(now_s + opens_in_s, UTC)
    return Window(cron=f"{start.minute} {start.hour} * * *", duration_s=7200, timezone="UTC")


@pytest.fixture
def clock(device: Device) -> SetClock:
    device.clock = clock = SetClock(time.time())
    return clock


def closed(assign: Assign, version: int, counter: int, clock: SetClock, **more: Any) -> bytes:
    window = window_around(clock.at_s, opens_in_s=6 * 3600)
    return assign(version, counter, schema_version=CONDITIONAL_SCHEMA, window=window, **more)


def held(assign: Assign, version: int, counter: int, mode: Mode = "hold") -> bytes:
    return assign(version, counter, schema_version=CONDITIONAL_SCHEMA, mode=mode)


# --- windows --------------------------------------------------------------------------------------------------------
async def test_a_version_is_fetched_ahead_and_activated_when_its_window_opens(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(closed(assign, 2, 2, clock))
        status = await device.until_state("held", counter=2)
        assert (status.active_version, device.serves(), status.reason_code) == (1, 1, "install.waits_for_window")
        assert "the window that opens at" in status.reason
        asked = len(device.hub.requests)
        clock.at_s += 6 * 3600 + 120
        await device.until_state("committed", counter=2)
        assert device.serves() == 2
        assert len(device.hub.requests) == asked
    assert device.states(2)[-4:] == ["held", "activating", "probation", "committed"]
    assert device.reports()[-1].reason_code == ""


async def test_an_open_window_is_no_wait(device: Device, release: Release, assign: Assign, clock: SetClock) -> None:
    release(1)
    window = window_around(clock.at_s, opens_in_s=-1800)
    async with device.run():
        await device.assign(assign(1, 1, schema_version=CONDITIONAL_SCHEMA, window=window))
        await device.until_state("committed", counter=1)
    assert "held" not in device.states(1)


@pytest.mark.parametrize("state", ["held", "activating", "probation"])
async def test_a_cut_while_it_waits_or_after_converges_and_the_live_version_serves(
    device: Device, release: Release, assign: Assign, clock: SetClock, state: str
) -> None:
    await install(device, release, assign, 1)
    release(2)
    envelope = closed(assign, 2, 2, clock)
    if state == "held":
        cut_after(device, "held")
        assert not await life(device, envelope, 2, "committed")
        device.cut = lambda journal: False
        async with device.run():
            assert device.serves() == 1
            await device.until_state("held", counter=2)
    else:
        assert await life(device, envelope, 2, "held")
        clock.at_s += 6 * 3600 + 120
        cut_after(device, state)
        assert not await life(device, envelope, 2, "committed")
        device.cut = lambda journal: False
    clock.at_s += 6 * 3600 + 120 if state == "held" else 0
    assert await life(device, envelope, 2, "committed")
    assert device.active().startswith("v2-")


async def test_what_was_cut_before_its_pointer_moved_waits_for_the_next_opening(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    await install(device, release, assign, 1)
    release(2)
    envelope = closed(assign, 2, 2, clock)
    assert await life(device, envelope, 2, "held")
    clock.at_s += 6 * 3600 + 120
    cut_after(device, "activating")
    assert not await life(device, envelope, 2, "committed")
    device.cut = lambda journal: False
    clock.at_s += 4 * 3600
    async with device.run():
        status = await device.until_state("held", counter=2)
        assert (status.active_version, device.serves()) == (1, 1)
        clock.at_s += 20 * 3600
        await device.until_state("committed", counter=2)


@pytest.mark.parametrize("newer", ["version", "nothing"])
async def test_a_newer_assignment_or_a_withdrawal_ends_the_wait(
    device: Device, release: Release, assign: Assign, clock: SetClock, newer: str
) -> None:
    await install(device, release, assign, 1)
    release(2)
    release(3)
    async with device.run():
        await device.assign(closed(assign, 2, 2, clock))
        await device.until_state("held", counter=2)
        if newer == "version":
            await device.assign(assign(3, 3))
            await device.until_state("committed", counter=3)
            assert device.serves() == 3
        else:
            await device.assign()
            status = await device.until_state("rolled_back", counter=2)
            assert (status.reason_code, device.serves()) == ("install.cancelled", 1)


async def test_the_same_version_without_its_window_is_activated_at_once(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(closed(assign, 2, 2, clock))
        await device.until_state("held", counter=2)
        asked = len(device.hub.asked())
        await device.assign(assign(2, 3))
        await device.until_state("committed", counter=3)
    assert len(device.hub.asked()) == asked


async def test_a_clock_of_1970_keeps_the_window_closed(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    release(1)
    window = Window(cron="* * * * *", duration_s=3600, timezone="UTC")
    clock.at_s, right = 100.0, clock.at_s
    async with device.run():
        await device.assign(assign(1, 1, schema_version=CONDITIONAL_SCHEMA, window=window))
        status = await device.until_state("held", counter=1)
        assert status.reason_code == "install.waits_for_clock"
        clock.at_s = right
        await device.until_state("committed", counter=1)


async def test_a_person_may_go_back_while_something_waits(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    release(3)
    async with device.run() as installer:
        await device.assign(closed(assign, 3, 3, clock))
        await device.until_state("held", counter=3)
        await installer.rollback("digits")
        assert device.serves() == 1


async def test_a_slot_that_is_damaged_while_it_waits_is_fetched_anew(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(closed(assign, 2, 2, clock))
        await device.until_state("held", counter=2)
        for path in device.paths.model("digits").slots.glob("v2-*/*.tflite"):
            path.write_bytes(b"damaged")
        clock.at_s += 6 * 3600 + 120
        await device.until_state("committed", counter=2)
        assert device.serves() == 2


async def test_a_zone_that_the_device_does_not_know_fails_with_the_reason(
    device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    window = Window(cron="0 2 * * *", duration_s=60, timezone="Atlantis/Capital")
    async with device.run():
        await device.assign(assign(1, 1, schema_version=CONDITIONAL_SCHEMA, window=window))
        status = await device.until_state("rolled_back", counter=1)
    assert status.reason_code == "schedule.timezone"


async def test_the_profiles_window_counts_only_if_the_setting_says_so_and_never_for_a_first_version(
    device: Device, release: Release, assign: Assign, clock: SetClock
) -> None:
    start = window_around(clock.at_s, opens_in_s=6 * 3600)
    own = MaintenanceWindow(cron=start.cron, duration_s=60, timezone="UTC")
    device.profile = msgspec.structs.replace(device.profile, maintenance_window=own)
    device.settings = msgspec.structs.replace(QUICK, profile_window=True)
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(assign(2, 2))
        await device.until_state("held", counter=2)
    device.settings = QUICK
    async with device.run():
        await device.until_state("committed", counter=2)


async def test_an_assignment_in_words_that_this_agent_does_not_know_is_refused(
    device: Device, release: Release, assign: Assign
) -> None:
    release(1)
    async with device.run():
        await device.assign(assign(1, 1, schema_version=CONDITIONAL_SCHEMA + 1))
        await device.until(lambda: "assignment.malformed" in device.events())
        assert device.serves() == 0


# --- held back ------------------------------------------------------------------------------------------------------
async def test_what_is_held_back_is_activated_by_a_later_word_without_a_second_download(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(held(assign, 2, 2))
        status = await device.until_state("held", counter=2)
        assert (status.reason_code, status.mode, device.serves()) == ("install.held", "hold", 1)
        asked = len(device.hub.asked())
    async with device.run():
        await device.until_state("held", counter=2)
        await device.assign(assign(2, 3))
        await device.until_state("committed", counter=3)
        assert device.serves() == 2
    assert len(device.hub.asked()) == asked


async def test_what_is_to_be_held_back_does_not_end_a_probation(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    release(2)
    release(3)
    async with device.run():
        await device.assign(assign(2, 2, bake_s=1))
        await device.until(lambda: "probation" in device.states(2))
        await device.assign(held(assign, 3, 3))
        await device.until_state("held", counter=3)
        assert device.serves() == 2
    assert device.states(2)[-1] == "committed"


async def test_a_shadow_is_refused_where_none_can_run(device: Device, release: Release, assign: Assign) -> None:
    await install(device, release, assign, 1)
    release(2)
    async with device.run():
        await device.assign(held(assign, 2, 2, "shadow"))
        status = await device.until_state("rolled_back", counter=2)
        assert (status.reason_code, device.serves()) == ("shadow.not_supported", 1)


async def test_restarts_while_something_waits_neither_use_it_up_nor_hide_a_crash_loop_of_what_serves(
    device: Device, release: Release, assign: Assign
) -> None:
    await install(device, release, assign, 1)
    await install(device, release, assign, 2)
    release(3)
    async with device.run():
        await device.assign(held(assign, 3, 3))
        await device.until_state("held", counter=3)
    steps = device.journals[-1].steps
    for _ in range(3):
        async with device.run():  # orderly
            assert device.serves() == 2
    assert device.journals[-1].steps == steps < MAX_STEPS
    for _ in range(MAX_COMMITTED_RESTARTS):
        cut_after(device, "held")
        with pytest.raises(BaseException):  # noqa: B017 - the power goes within the recovery
            async with device.run():
                pass
    device.cut = lambda journal: False
    async with device.run():
        status = await device.until_state("rolled_back", counter=3)
        assert (status.reason_code, device.serves()) == ("install.crash_loop", 1)


# --- the decision ---------------------------------------------------------------------------------------------------
def assignment(window: Window | None, issued_s: float = 0.0, **more: Any) -> Assignment:
    given: dict[str, Any] = {} if window is None else {"window": window}
    return Assignment(
        device_id="pi-1", model="digits", version=2, counter=2, target="digits/2.bundle", bundle_sha256="ab" * 32,
        bundle_bytes=1, issued_s=issued_s, expires_s=2e9, **given, **more,
    )  # fmt: skip


def open_at(now_s: float, window: Window = NIGHTLY, zone: ZoneInfo = PARIS) -> bool:
    found = assignment(window)
    return waiting(found, window_of(found, None), now_s, zone).over


def test_the_night_on_which_paris_skips_the_hour_opens_at_the_end_of_the_gap() -> None:
    assert not open_at(at("2026-03-29 01:59"))
    assert open_at(at("2026-03-29 03:00"))
    assert open_at(at("2026-03-29 03:59"))
    assert not open_at(at("2026-03-29 04:00"))


def test_the_night_on_which_paris_repeats_the_hour_opens_once_and_for_an_hour() -> None:
    assert not open_at(at("2026-10-25 02:29"))
    assert open_at(at("2026-10-25 02:30"))
    assert open_at(at("2026-10-25 02:29", fold=1))
    assert not open_at(at("2026-10-25 02:30", fold=1))


def test_the_devices_own_zone_counts_where_the_window_asks_for_it() -> None:
    window = Window(cron="0 2 * * *", duration_s=3600)
    assert open_at(at("2026-06-01 02:30"), window)
    assert not open_at(at("2026-06-01 02:30"), window, ZoneInfo("Asia/Tokyo"))


@given(st.sampled_from(["hold", "shadow"]), st.floats(0, 4e9))
def test_what_is_held_back_or_a_shadow_is_never_activated(mode: Mode, now_s: float) -> None:
    found = assignment(None, mode=mode, shadow=ShadowRun())
    assert not waiting(found, None, now_s, UTC).over


@given(st.integers(0, 4_000_000_000), st.floats(1e9, 3e9))
def test_before_the_assignment_was_signed_no_window_is_open(now_s: int, issued_s: float) -> None:
    always = Window(cron="* * * * *", duration_s=3600, timezone="UTC")
    found = waiting(assignment(always, issued_s), always, now_s, UTC)
    assert found.over == (now_s >= issued_s - 300)


def test_a_window_that_is_no_window_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        open_at(1e9, Window(cron="0 2 31 2 *", duration_s=60))
    assert caught.value.code == "schedule.cron"


def test_a_system_without_a_zone_counts_as_utc(tmp_path: Any) -> None:
    assert device_zone(tmp_path / "none") is UTC
    (tmp_path / "bad").write_bytes(b"no zone")
    assert device_zone(tmp_path / "bad") is UTC
