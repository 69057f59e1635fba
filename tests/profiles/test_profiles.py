"""Firmware profiles: those that ship are whole and sensible, and a wrong one is refused by name of the field."""

from __future__ import annotations

import zoneinfo
from importlib import resources
from pathlib import Path

import pytest

from shared import profiles
from shared.bundle.manifest import Requirements
from shared.errors import Conflict, InvalidInput, NotFound
from shared.limits import MIB

SHIPPED = ["camera-armv7", "jetson-orin-nano", "raspberry-pi-4", "raspberry-pi-zero-2w", "x86-gateway"]


def source(name: str) -> str:
    return resources.files("firmware_profiles").joinpath(f"{name}.yaml").read_text()


def test_the_promised_profiles_ship() -> None:
    assert profiles.profile_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_is_sensible(name: str) -> None:
    profile = profiles.load_profile(name)
    assert profile.name == name
    assert source(name).startswith("# yaml-language-server: $schema=schema.json\n")
    assert profile.agent_memory_bytes >= 80 * MIB
    assert profile.outbox_bytes * 8 <= profile.storage_bytes
    assert (profile.runtime.package == "tflite-runtime") == (profile.arch == "armv7l")
    assert {"FULLY_CONNECTED", "CONV_2D", "SOFTMAX", "READ_VARIABLE", "ASSIGN_VARIABLE"} <= set(profile.runtime.ops)
    if profile.maintenance_window is not None:
        zoneinfo.ZoneInfo(profile.maintenance_window.timezone)
    if profile.training.allowed:
        assert profile.training.max_memory_bytes + profile.agent_memory_bytes < profile.memory_bytes


def test_the_committed_schema_is_the_generated_one() -> None:
    committed = resources.files("firmware_profiles").joinpath("schema.json").read_bytes()
    assert committed == profiles.profile_schema(), "skerry profiles schema > firmware_profiles/schema.json"


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(source("x86-gateway").replace("name: x86-gateway", "name: mine"))
    assert profiles.load_profile(path).name == "mine"
    assert profiles.load_profile(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("threads: 2", "threads: 0", "threads"),
        ("threads: 2", "threads: two", "threads"),
        ("threads: 2", "cores: 2", "cores"),
        ("class: ethernet", "class: carrier-pigeon", "class"),
        ("ADD: 5", "add: 5", "ops"),
        ("arch: x86_64", "arch: mips", "arch"),
        ("cron: 30 1 * * 1-6", "cron: 30 1", "cron"),
        ("timezone: Europe/Amsterdam", "timezone: ../etc/passwd", "timezone"),
        ("agent_memory_bytes: 134217728", "agent_memory_bytes: 8589934592", "memory_bytes"),
        ("outbox_bytes: 134217728", "outbox_bytes: 17179869184", "outbox_bytes"),
        ("title: ", "note: x\ntitle: ", "note"),
    ],
)
def test_a_wrong_profile_is_refused_by_the_name_of_the_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    text = source("x86-gateway")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput) as caught:
        profiles.load_profile(path)
    assert caught.value.code == "profile.invalid"
    assert field in caught.value.message


@pytest.mark.parametrize("name", ["toaster", "", "..", "schema", "X86-GATEWAY", "__init__"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        profiles.load_profile(name)
    assert caught.value.code == "profile.unknown"
    assert "raspberry-pi-4" in caught.value.hint


@pytest.mark.parametrize("name", ["../pyproject.toml", "/etc/passwd"])
def test_a_path_that_is_no_profile_is_refused(name: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        profiles.load_profile(name)


def test_a_version_within_the_budget_is_accepted() -> None:
    needs = Requirements(memory_bytes=64 * MIB, ops={"CONV_2D": 3, "FULLY_CONNECTED": 9})
    for name in SHIPPED:
        profiles.check_requirements(profiles.load_profile(name), needs)


@pytest.mark.parametrize(
    ("needs", "code", "word"),
    [
        (Requirements(memory_bytes=64 * MIB + 1), "profile.memory", "67108864"),
        (Requirements(ops={"FULLY_CONNECTED": 12}), "profile.op_version", "FULLY_CONNECTED v12 (at most v10)"),
        (Requirements(ops={"CONV_3D": 1}), "profile.op_missing", "CONV_3D"),
    ],
)
def test_a_version_beyond_the_device_is_refused(needs: Requirements, code: str, word: str) -> None:
    with pytest.raises(Conflict) as caught:
        profiles.check_requirements(profiles.load_profile("camera-armv7"), needs)
    assert caught.value.code == code
    assert word in caught.value.message
    assert "camera-armv7" in caught.value.message
