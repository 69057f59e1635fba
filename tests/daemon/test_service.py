"""The systemd unit: its hardening, and what installing it writes and runs."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.service.install import install, places, plan
from agent.service.unit import UnitOptions, memory_max_bytes, render_account, render_unit
from shared.errors import Forbidden
from shared.profiles import load_profile

OPTIONS = UnitOptions(
    python=Path("/opt/skerry/bin/python"), state=Path("/var/lib/skerry"), memory_max_bytes=300_000_000
)


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_unit_is_hardened_and_watched() -> None:
    unit = parsed(render_unit(OPTIONS))["Service"]
    assert unit["Type"] == "notify"
    assert unit["ExecStart"] == "/opt/skerry/bin/python -m agent --state /var/lib/skerry"
    assert unit["WatchdogSec"] == "60"
    assert unit["Restart"] == "always"
    assert unit["MemoryMax"] == "300000000"
    assert unit["OOMPolicy"] == "continue"
    assert unit["ReadWritePaths"] == "/var/lib/skerry"
    for name in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "RestrictSUIDSGID",
        "LockPersonality",
    ):
        assert unit[name] == "yes"
    assert unit["ProtectSystem"] == "strict"
    filtered = unit["SystemCallFilter"].split()
    assert filtered[0] == "@system-service"
    assert set(filtered[1:]) == {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert unit["CapabilityBoundingSet"] == ""
    assert "MALLOC_ARENA_MAX=2" in unit["Environment"]


def test_a_unit_of_ones_own_has_nothing_that_needs_root() -> None:
    unit = parsed(render_unit(UnitOptions(python=Path("/x"), state=Path("/y"), memory_max_bytes=1, user=True)))
    assert "User" not in unit["Service"]
    assert "CapabilityBoundingSet" not in unit["Service"]
    assert unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Install"]["WantedBy"] == "default.target"


def test_an_interpreter_in_a_home_can_still_be_read() -> None:
    options = UnitOptions(python=Path("/home/ada/venv/bin/python"), state=Path("/var/lib/skerry"), memory_max_bytes=1)
    assert parsed(render_unit(options))["Service"]["ProtectHome"] == "read-only"


def test_paths_with_spaces_and_percent_signs_stay_one_word() -> None:
    options = UnitOptions(python=Path("/opt/my agent/py"), state=Path("/data/100%"), memory_max_bytes=1)
    assert '"/opt/my agent/py" -m agent --state /data/100%%' in render_unit(options)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
@pytest.mark.parametrize("user", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, user: bool) -> None:
    path = tmp_path / "skerry-agent.service"
    path.write_text(
        render_unit(UnitOptions(python=Path(sys.executable), state=tmp_path, memory_max_bytes=1, user=user))
    )
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_memory_cap_leaves_room_for_a_probe_but_never_exceeds_the_device() -> None:
    for name in ("raspberry-pi-4", "camera-armv7"):
        profile = load_profile(name)
        cap = memory_max_bytes(profile)
        assert profile.agent_memory_bytes + profile.model_memory_bytes < cap <= profile.memory_bytes


def test_installing_writes_the_files_and_then_tells_systemd(tmp_path: Path) -> None:
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    ran: list[Sequence[str]] = []
    options = UnitOptions(python=Path(sys.executable), state=tmp_path / "state", memory_max_bytes=1)
    where = places(user=False, root=tmp_path)
    written = install(options, where, ran.append)
    assert (tmp_path / "etc/systemd/system/skerry-agent.service").read_text() == render_unit(options)
    assert (tmp_path / "etc/sysusers.d/skerry-agent.conf").read_text() == render_account(options.state)
    assert len(written) == 2
    assert [list(command) for command in ran] == [step.command for step in plan(options, where)]
    assert ran[-1] == ["systemctl", "enable", "--now", "skerry-agent.service"]


def test_without_the_right_to_write_nothing_is_done(tmp_path: Path) -> None:
    options = UnitOptions(python=Path(sys.executable), state=tmp_path / "state", memory_max_bytes=1)
    ran: list[Sequence[str]] = []
    with pytest.raises(Forbidden) as refused:
        install(options, places(user=False, root=tmp_path / "missing"), ran.append)
    assert refused.value.code == "service.needs_root"
    assert ran == []
    assert not (tmp_path / "state").exists()


def test_a_service_of_ones_own_goes_into_the_home(tmp_path: Path) -> None:
    options = UnitOptions(python=Path(sys.executable), state=tmp_path / "state", memory_max_bytes=1, user=True)
    ran: list[Sequence[str]] = []
    written = install(options, places(user=True, home=tmp_path), ran.append)
    assert written == [tmp_path / ".config/systemd/user/skerry-agent.service"]
    assert all(command[:2] == ["systemctl", "--user"] for command in ran)
