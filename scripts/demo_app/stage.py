"""The stage: one folder, one hub, the devices, and the commands that drive them.

Everything goes through the installed commands `skerry-hub`, `skerry-agent` and `skerry`, with `--json`; what is shown
is what a person would type.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.demo_app.data import DataSet
from scripts.demo_app.processes import Children, DemoFailed, free_ports, wait_until
from scripts.demo_app.screen import Screen

__all__ = ["PASSPHRASE", "Device", "Stage"]

PASSPHRASE = "for the demo only"
_BIN = Path(sys.executable).parent
_PROFILES = ("raspberry-pi-4", "raspberry-pi-zero-2w", "jetson-orin-nano", "x86-gateway", "camera-armv7")
_COMMAND_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Device:
    """One device of the demo: its id and its folder."""

    name: str
    profile: str
    state: Path

    @property
    def socket(self) -> Path:
        """The Unix socket of its local API."""
        return self.state / "run" / "agent.sock"


@dataclass(slots=True)
class Stage:
    """Where the demo plays."""

    folder: Path
    data: DataSet
    screen: Screen
    children: Children
    devices: list[Device] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    @property
    def keys(self) -> Path:
        """The people's keys. In real life each is on its owner's machine."""
        return self.folder / "people"

    @property
    def model(self) -> str:
        """The model's name."""
        return self.data.name

    def start_hub(self) -> None:
        """Start the hub as a child and wait until it answers."""
        port, mqtt, nats = free_ports(3)
        self.url = f"https://127.0.0.1:{port}"
        env = {"SKERRY_HUB_MQTT_PORT": str(mqtt), "SKERRY_HUB_NATS__PORT": str(nats)}
        data = self.folder / "hub"
        self.children.start(
            "hub", [str(_BIN / "skerry-hub"), "serve", "--data", str(data), "--port", str(port), "--json"], env
        )
        log = self.children.log("hub")

        def ready() -> bool:
            self.children.check()
            return '"ready": true' in log.read_text(errors="replace")

        wait_until(ready, what="the hub to be ready", timeout_s=60)

    def add_devices(self) -> None:
        """Name the five devices; nothing is started."""
        for number, profile in enumerate(_PROFILES, 1):
            self.devices.append(Device(f"device-{number}", profile, self.folder / f"device-{number}"))

    def start_agent(self, device: Device) -> None:
        """Start the agent of one device as a child."""
        env = {"SKERRY_AGENT_TELEMETRY_INTERVAL_S": "2"}
        command = [str(_BIN / "skerry-agent"), "run", "--state", str(device.state)]
        self.children.start(device.name, command, env)

    def skerry(self, *words: str, show: bool = True) -> Any:
        """Run `skerry WORDS --json`; its answer, or `DemoFailed` with what it said."""
        if show:
            self.screen.command(["skerry", *map(self._shown, words)])
        token = (self.folder / "hub" / "admin.token").read_text().strip()
        env = {
            "SKERRY_URL": self.url,
            "SKERRY_TOKEN": token,
            "SKERRY_CA": str(self.folder / "hub" / "pki" / "hub-ca.crt"),
            "SKERRY_PASSPHRASE": PASSPHRASE,
        }
        return self._run("skerry", words, env)

    def agent(self, *words: str, show: bool = True) -> Any:
        """Run `skerry-agent WORDS --json`."""
        if show:
            self.screen.command(["skerry-agent", *map(self._shown, words)])
        return self._run("skerry-agent", words, {})

    def _shown(self, word: str) -> str:
        if word.startswith("skerry-join:"):
            return word[:24] + "…"
        return shlex.quote(word.replace(f"{self.folder}/", ""))

    def _run(self, program: str, words: Sequence[str], env: dict[str, str]) -> Any:
        done = subprocess.run(
            [str(_BIN / program), *words, "--json"],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            said = (done.stdout.strip() + "\n" + done.stderr.strip()).strip()
            raise DemoFailed(f"{program} {' '.join(map(self._shown, words))} ended with {done.returncode}:\n{said}")
        return json.loads(done.stdout)

    def wait_for_installs(self, version: int, states: set[str], *, timeout_s: float = 60) -> list[dict[str, Any]]:
        """Until every device reports one of `states` about `version`; the hub's rows of them."""
        rows: list[dict[str, Any]] = []

        def arrived() -> bool:
            self.children.check()
            rows[:] = [self.device_model(device) for device in self.devices]
            return all(row.get("target_version") == version and row.get("state") in states for row in rows)

        try:
            wait_until(arrived, what=f"version {version} on every device", timeout_s=timeout_s, interval_s=0.5)
        except DemoFailed as error:
            raise DemoFailed(f"{error}\n{json.dumps(rows, indent=1)}") from error
        return rows

    def device_model(self, device: Device) -> dict[str, Any]:
        """What the hub knows of the demo's model on one device."""
        shown = self.skerry("devices", "show", device.name, show=False)
        found = [row for row in shown["models"] if row["model"] == self.model]
        return found[0] if found else {}
