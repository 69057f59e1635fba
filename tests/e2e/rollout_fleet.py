"""A hub as a process that may be killed, agents of two profiles with applications, and the commands of a rollout.

`Application` asks as an application on the device does. A version that kills its agent is played by the test, which
kills the agent's process as soon as it serves that version, and starts it again as the service manager does.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agent.local_client import LocalAgent
from agent.paths import AgentPaths
from hub.settings import NatsSettings
from shared.errors import SkerryError
from tests.cli.rig import Said, Skerry
from tests.daemon.device import SETTINGS, RunningAgent, launch
from tests.e2e.clock import clock_ahead
from tests.e2e.fleet import HubFolder, until
from tests.models import Floats, load_digits
from tests.ports import free_ports
from tests.registry_kit import Flow, released_hub

__all__ = ["PROFILES", "RolloutFleet", "rollout_fleet"]

PROFILES = {"gw-1": "x86-gateway", "gw-2": "x86-gateway", "pi-1": "jetson-orin-nano", "pi-2": "jetson-orin-nano"}
_OTA = """\
ota:
  retry_base_s: 0.2
  retry_cap_s: 1
  transfer_retry_base_s: 0.1
  transfer_retry_cap_s: 1
"""
Look = Callable[[Floats], Floats]


class ReleasedHub(HubFolder):
    """A hub's folder with approved versions; `release` makes them."""

    def __init__(self, parent: Path, release: Callable[[Flow], None]) -> None:
        self.data, self.log = parent / "hub", parent / "hub.log"
        self.facts: dict[str, Any] = {}
        self.environ: dict[str, str] = {}
        https, mqtt, nats = free_ports(3)
        with released_hub(parent, mqtt_port=mqtt, nats=NatsSettings(port=nats)) as flow:
            release(flow)
        settings: dict[str, Any] = {"port": https, "mqtt_port": mqtt, "nats": {"port": nats}}
        settings["certificates"] = {"device_days": 800}  # some tests set the clock half a year ahead
        (self.data / "hub.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))


class Application(threading.Thread):
    """Asks the agent about `batch` pictures at a time until it is stopped; `look` is what its camera makes of them."""

    def __init__(self, paths: AgentPaths) -> None:
        super().__init__(name=f"application-{paths.root.name}", daemon=True)
        self._paths = paths
        self._ended = threading.Event()
        self.look: Look = lambda pictures: pictures
        self.batch = 32

    def run(self) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(SkerryError), LocalAgent(self._paths.socket) as agent:
                data = self.look(load_digits().test_x[: self.batch]).ravel().tolist()
                tensor = {"name": "image", "datatype": "FP32", "shape": [self.batch, 8, 8], "data": data}
                agent.post("/v2/models/digits/infer", {"inputs": [tensor]})

    def end(self) -> None:
        self._ended.set()
        self.join(30)


class RolloutFleet:
    """The hub, the devices, and `skerry`."""

    def __init__(self, folder: Path, hub: HubFolder) -> None:
        self.folder, self.hub = folder, hub
        self._serving = ExitStack()
        self.paths = {device: AgentPaths(folder / device / "state") for device in PROFILES}
        self.agents: dict[str, RunningAgent] = {}
        self.applications = {device: Application(paths) for device, paths in self.paths.items()}
        self.serve()
        environ = {
            "SKERRY_URL": str(hub.facts["url"]),
            "SKERRY_TOKEN": Path(hub.facts["admin_token_file"]).read_text().strip(),
            "SKERRY_CA": str(hub.facts["ca_file"]),
        }
        self.skerry = Skerry(folder, environ)

    def serve(self) -> None:
        """Start the hub."""
        self._serving.enter_context(self.hub.serving())

    def kill_hub(self) -> None:
        """With SIGKILL."""
        self._serving.close()

    def join(self) -> None:
        """Every device is enrolled and serves version 1."""
        for device, paths in self.paths.items():
            paths.root.parent.mkdir()
            self.hub.join(paths, device, PROFILES[device])
            paths.settings.write_text(paths.settings.read_text().replace("_s: 0.1\n", "_s: 0.5\n", 1) + _OTA)
            self.start(device)
            self.applications[device].start()
        self.skerry.json("deploy", "digits", "1", "--all", "--wait")

    def start(self, device: str) -> None:
        """Start a device's agent."""
        self.agents[device] = launch(self.paths[device], settings={**SETTINGS, **self.hub.environ})

    def set_clocks(self, ahead_s: float, devices: Collection[str]) -> None:
        """Start the hub anew, and only these devices, all with a clock that is so far ahead of the real one."""
        for agent in self.agents.values():
            agent.stop()
        self.kill_hub()
        self.hub.environ = clock_ahead(ahead_s)
        self.serve()
        for device in devices:
            self.start(device)

    def end(self) -> None:
        """End all that runs."""
        for application in self.applications.values():
            application.end()
        for agent in self.agents.values():
            agent.stop(signal.SIGKILL)
        self.kill_hub()

    # --- what is seen -------------------------------------------------------------------------------------------------
    def serves(self, device: str) -> int | None:
        """The version that answers on a device, by its own word; None while it cannot be asked."""
        with contextlib.suppress(SkerryError), LocalAgent(self.paths[device].socket) as agent:
            for found in agent.get("/skerry/status")["models"]:
                return int(found["active_version"])
        return None

    def create(self, definition: dict[str, Any]) -> str:
        """Start a rollout of the digits model to all."""
        file = self.folder / "rollout.yaml"
        file.write_text(json.dumps({"model": "digits", "targets": {"filter": "all"}, **definition}))
        made: str = self.skerry.json("rollout", "create", file)["rollout_id"]
        return made

    def show(self, rollout: str) -> dict[str, Any]:
        """`skerry rollout show --json`."""
        found: dict[str, Any] = self.skerry.json("rollout", "show", rollout)
        return found

    def said(self, *words: str) -> Said:
        """What a command says to a person."""
        said = self.skerry(*words)
        assert said.code == 0, said.err
        return said

    def until_status(self, rollout: str, status: str) -> dict[str, Any]:
        """Wait; how the rollout then stands."""
        until(lambda: self.show(rollout)["status"] == status, f"{rollout} does not become {status}")
        return self.show(rollout)

    def devices(self, rollout: str) -> dict[str, dict[str, Any]]:
        """Rows of `skerry rollout devices` by device."""
        return {row["device_id"]: row for row in self.skerry.json("rollout", "devices", rollout)}

    def states(self, rollout: str) -> dict[str, str]:
        """States of a rollout's devices."""
        return {device: row["state"] for device, row in self.devices(rollout).items()}


@contextmanager
def rollout_fleet(folder: Path, release: Callable[[Flow], None]) -> Iterator[RolloutFleet]:
    """A fleet that serves version 1, ended with the block."""
    fleet = RolloutFleet(folder, ReleasedHub(folder, release))
    try:
        fleet.join()
        yield fleet
    finally:
        fleet.end()
