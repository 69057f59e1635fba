"""What a device says of itself: from a machine, models and samples that the test owns."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.inference.host import ModelHost
from agent.ota.installer import InstallStatus
from agent.telemetry.system import SystemSource
from agent.training.readings import DeviceReadings
from shared.profiles import MaintenanceWindow
from tests.models import load_digits, unpacked_digits
from tests.training.device import COOL, PROFILE, SPACE, Machine
from tests.training.kit import Clock

SHA = "a" * 64
NIGHT = datetime(2027, 3, 1, 3, 30, tzinfo=UTC).timestamp()


class Device:
    """Installer and samples."""

    def __init__(self) -> None:
        self.version: int | None = 1
        self.works = False

    def status(self) -> list[InstallStatus]:
        return [InstallStatus(model="digits", state="committed", active_version=self.version, bundle_sha256=SHA)]

    def resting(self) -> bool:
        return not self.works

    def samples(self, model: str, space: str) -> dict[int, int]:
        return {1: 4, 2: 5} if (model, space) == ("digits", SPACE) else {}

    def seen(self, model: str, space: str) -> int:
        return 90 if (model, space) == ("digits", SPACE) else 0


@pytest.fixture
def host(tmp_path: Path) -> ModelHost:
    unpacked_digits(tmp_path / "slot", 1)
    made = ModelHost()
    made.swap("digits", made.load("digits", tmp_path / "slot"))
    return made


def readings(tmp_path: Path, host: ModelHost, device: Device, clock: Clock, **more: Any) -> DeviceReadings:
    profile = msgspec.structs.replace(
        PROFILE, maintenance_window=MaintenanceWindow(cron="0 3 * * *", duration_s=3600)
    )
    fields: dict[str, Any] = {"idle_s": 0.0, "system": Machine(), "installed": lambda: True}
    return DeviceReadings(tmp_path, profile, host, device, device, clock, **(fields | more))


def test_a_device_that_serves_rests_and_is_in_its_window_says_so(tmp_path: Path, host: ModelHost) -> None:
    found = readings(tmp_path, host, Device(), Clock(NIGHT)).take("digits", SHA)
    assert (found.serving, found.samples, found.busy) == ({"digits": 1}, {1: 4, 2: 5}, False)
    assert (found.in_window, found.opens_in_s) == (True, 0.0)
    assert (found.cpu_percent, found.temperature_c, found.on_mains) == (5.0, 40.0, None)
    assert found.idle
    assert found.disk_free_bytes


def test_only_the_very_bundle_that_serves_counts(tmp_path: Path, host: ModelHost) -> None:
    device = Device()
    look = readings(tmp_path, host, device, Clock(NIGHT))
    assert look.take("digits", "b" * 64).serving == {}
    device.version = None
    assert look.take("digits", SHA).serving == {}
    assert look.take("other", SHA).serving == {}
    assert look.take("other", SHA).samples == {}
    host.unload("digits")
    assert look.take("digits", SHA).samples == {}
    assert look.trainable() == []


def test_a_closed_window_says_when_it_opens_and_a_wrong_clock_opens_none(tmp_path: Path, host: ModelHost) -> None:
    clock = Clock(NIGHT + 3600)
    look = readings(tmp_path, host, Device(), clock)
    found = look.take("digits", SHA)
    assert (found.in_window, found.opens_in_s) == (False, 86400.0 - 5400.0)
    clock.at_s = 3.5 * 3600  # 1970-01-01 03:30
    found = look.take("digits", SHA)
    assert (found.in_window, found.opens_in_s) == (False, None)


def test_a_prediction_ends_the_idling_for_a_while(tmp_path: Path, host: ModelHost) -> None:
    look = readings(tmp_path, host, Device(), Clock(NIGHT), idle_s=3600.0)
    host.predict("digits", load_digits().test_x[:1])
    found = look.take("digits", SHA)
    assert found.idle is False
    assert found.idle_in_s is not None
    assert 3500 < found.idle_in_s <= 3600


def test_the_training_process_is_no_load_of_others(tmp_path: Path, host: ModelHost) -> None:
    clock, machine = Clock(NIGHT), Machine()
    machine.now = msgspec.structs.replace(COOL, cpu_percent=60.0)
    look = readings(tmp_path, host, Device(), clock, system=machine)
    look.mark(None)
    clock.at_s += 0.001
    assert look.take("digits", SHA, os.getpid()).cpu_percent == 0.0  # this process used far more than that
    look.mark(os.getpid())
    clock.at_s += 1000.0
    other = look.take("digits", SHA, os.getpid()).cpu_percent
    assert other is not None
    assert 59.0 < other <= 60.0


def test_the_real_machine_can_be_read(tmp_path: Path, host: ModelHost) -> None:
    found = readings(tmp_path, host, Device(), Clock(NIGHT), system=SystemSource(tmp_path)).take("digits", SHA)
    assert found.memory_available_bytes
