"""The stage: one folder, one hub, the devices, and the commands that drive them.

Everything goes through the installed commands `skerry-hub`, `skerry-agent` and `skerry`, with `--json`; what is shown
is what a person would type.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from scripts.demo_app.data import DataSet, in_order_of
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

    def seen_by(self, device: Device) -> DataSet:
        """The data as a device meets it."""
        return in_order_of(self.data, device.name)

    def start_hub(self) -> None:
        """Start the hub as a child and wait until it answers."""
        port, mqtt, nats, federated = free_ports(4)
        self.url = f"https://127.0.0.1:{port}"
        env = {
            "SKERRY_HUB_MQTT_PORT": str(mqtt),
            "SKERRY_HUB_NATS__PORT": str(nats),
            "SKERRY_HUB_FEDERATED__PORT": str(federated),
            "SKERRY_HUB_MONITORING__PERIOD_S": "5",  # an hour, outside a demo
        }
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

    def day_profile(self, device: Device) -> Path:
        """The device's firmware profile without its maintenance window: a demo cannot wait for the night."""
        text = resources.files("firmware_profiles").joinpath(f"{device.profile}.yaml").read_text()
        file = self.folder / "profiles" / f"{device.profile}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(re.sub(r"^maintenance_window:\n(?:[ ]+[^\n]*\n)*", "", text, flags=re.MULTILINE))
        return file

    def start_agent(self, device: Device) -> None:
        """Start the agent of one device as a child."""
        env = {
            "SKERRY_AGENT_TELEMETRY_INTERVAL_S": "1",
            "SKERRY_AGENT_DRIFT__WINDOW_S": "2",
            "SKERRY_AGENT_SAMPLES__HOLD_S": "1",
            "SKERRY_AGENT_TRAINING__IDLE_S": "1",
            "SKERRY_AGENT_TRAINING__BUSY_PERCENT": "100",  # five devices and the hub share one processor here
        }
        command = [str(_BIN / "skerry-agent"), "run", "--state", str(device.state)]
        self.children.start(device.name, command, env)

    def skerry(self, *words: str, show: bool = True) -> Any:
        """Run `skerry WORDS --json`; its answer, or `DemoFailed` with what it said."""
        if show:
            self.screen.command(["skerry", *map(self._shown, words)])
        return json.loads(self._run("skerry", [*words, "--json"], self._person(), 0))

    def show(self, *words: str) -> None:
        """Run `skerry WORDS` and let the person read what it prints."""
        self.screen.command(["skerry", *words])
        self.screen.text(self._run("skerry", words, {**self._person(), "COLUMNS": self._columns}, 0))

    def follow(self, *words: str, code: int) -> None:
        """Run `skerry WORDS` and let the person read along; `DemoFailed` unless it ends with `code`."""
        self.screen.command(["skerry", *map(self._shown, words)])
        environment = {**os.environ, **self._person(), "COLUMNS": self._columns}
        command = [str(_BIN / "skerry"), *words]
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                for line in process.stdout or ():
                    self.screen.text(f"    {line}")
                if process.wait(_COMMAND_TIMEOUT_S) != code:
                    raise DemoFailed(f"skerry {' '.join(map(self._shown, words))} ended with {process.returncode}.")
            finally:
                process.kill()

    def agent(self, *words: str, show: bool = True) -> Any:
        """Run `skerry-agent WORDS --json`."""
        if show:
            self.screen.command(["skerry-agent", *map(self._shown, words)])
        return json.loads(self._run("skerry-agent", [*words, "--json"], {}, 0))

    @property
    def _columns(self) -> str:
        """Tables are not squeezed for a narrow terminal; it wraps them."""
        return str(max(self.screen.console.width - 6, 110))

    def _person(self) -> dict[str, str]:
        return {
            "SKERRY_URL": self.url,
            "SKERRY_TOKEN": (self.folder / "hub" / "admin.token").read_text().strip(),
            "SKERRY_CA": str(self.folder / "hub" / "pki" / "hub-ca.crt"),
            "SKERRY_PASSPHRASE": PASSPHRASE,
        }

    def _shown(self, word: str) -> str:
        if word.startswith("skerry-join:"):
            return word[:24] + "…"
        return shlex.quote(word.replace(f"{self.folder}/", ""))

    def _run(self, program: str, words: Sequence[str], env: dict[str, str], code: int) -> str:
        done = subprocess.run(
            [str(_BIN / program), *words],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode != code:
            said = (done.stdout.strip() + "\n" + done.stderr.strip()).strip()
            raise DemoFailed(f"{program} {' '.join(map(self._shown, words))} ended with {done.returncode}:\n{said}")
        return done.stdout
