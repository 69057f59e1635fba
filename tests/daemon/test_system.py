"""The machine's readings: right where the kernel says something, null where it does not."""

from __future__ import annotations

from pathlib import Path

from agent.telemetry.system import SystemSource


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_what_the_kernel_says_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n")
    write(root, "proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n")
    write(root, "proc/uptime", "3600.25 1.0\n")
    write(root, "sys/class/thermal/thermal_zone0/temp", "41000\n")
    write(root, "sys/class/thermal/thermal_zone1/temp", "48500\n")
    write(root, "sys/class/power_supply/AC/type", "Mains\n")
    write(root, "sys/class/power_supply/BAT0/type", "Battery\n")
    write(root, "sys/class/power_supply/BAT0/capacity", "80\n")
    write(root, "sys/class/power_supply/BAT0/status", "Discharging\n")
    write(root, "run/systemd/timesync/synchronized", "")
    source = SystemSource(tmp_path, root)
    write(root, "proc/stat", "cpu  150 0 100 850 0 0 0 0 0 0\n")
    found = source.take()
    assert (found.cpu_percent, found.temperature_c, found.memory_available_bytes) == (50.0, 48.5, 512_000)
    assert (found.uptime_s, found.clock_synchronised) == (3600, True)
    assert (found.battery_percent, found.on_battery) == (80.0, True)
    (root / "run/systemd/timesync/synchronized").unlink()
    assert source.take().clock_synchronised is False
    assert source.take().cpu_percent is None, "no time passed"


def test_a_machine_that_says_nothing_gives_nulls(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "sys/class/thermal/thermal_zone0/temp", "unknown\n")
    write(root, "sys/class/power_supply/BAT0/type", "Battery\n")
    write(root, "proc/meminfo", "MemAvailable: many kB\n")
    found = SystemSource(tmp_path, root).take()
    assert (found.cpu_percent, found.temperature_c, found.memory_available_bytes, found.uptime_s) == (None,) * 4
    assert (found.clock_synchronised, found.battery_percent, found.on_battery, found.restarts) == (None,) * 4


def test_restarts_are_counted_over_lives_of_the_agent(tmp_path: Path) -> None:
    counts = []
    for _ in range(3):
        source = SystemSource(tmp_path)
        source.count_start()
        source.count_start()
        counts.append(source.take().restarts)
    assert counts == [0, 1, 2]
    (tmp_path / "starts.json").write_text("damaged")
    source = SystemSource(tmp_path)
    source.count_start()
    assert source.take().restarts == 0
