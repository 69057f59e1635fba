"""A hub for one simulation: `skerry-hub serve` on loopback ports of its own, ended by its process id, whatever happens.

Rules: it is the leader of its own process group and dies with the simulator; its words go to a log file, whose end is
shown when it does not start.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.settings import HubSettings, NatsSettings
from scripts.fleet_sim_app.ports import free_ports
from scripts.fleet_sim_app.release import prepare_hub
from scripts.fleet_sim_app.usage import children_of
from shared.errors import Unavailable

__all__ = ["OwnHub"]

_PR_SET_PDEATHSIG = 1
_START_S = 120.0
_STOP_S = 20.0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class OwnHub:
    """One hub process with its broker."""

    def __init__(self, folder: Path) -> None:
        https, mqtt, nats = free_ports(3)
        self._folder = folder
        self._settings = HubSettings(
            data_dir=str(folder / "hub"), port=https, mqtt_port=mqtt, nats=NatsSettings(port=nats)
        )
        self._log = folder / "hub.log"
        self._process: subprocess.Popen[str] | None = None
        self.facts: Mapping[str, Any] = {}

    @property
    def pid(self) -> int:
        """The hub's process."""
        return self._process.pid if self._process else 0

    @property
    def broker_pid(self) -> int:
        """The nats-server that the hub started."""
        return next(iter(children_of(self.pid, "nats-server")), 0)

    @property
    def database(self) -> Path:
        """The hub's SQLite file."""
        return self._settings.data_path / "hub.db"

    @property
    def token(self) -> str:
        """The first administrator's."""
        return self._settings.admin_token_path.read_text().strip()

    @property
    def ca_file(self) -> Path:
        """What its clients trust."""
        return self._settings.pki_path / "hub-ca.crt"

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._settings.url

    async def start(self, *, versions: int, bake_s: int, bundle_bytes: int) -> None:
        """Prepare it with an approved model and start it; error `sim.hub_start` with its last words."""
        await asyncio.to_thread(
            prepare_hub, self._settings, versions=versions, bake_s=bake_s, bundle_bytes=bundle_bytes
        )
        data, settings = self._settings.data_path, self._settings
        values = {"port": settings.port, "mqtt_port": settings.mqtt_port, "nats": {"port": settings.nats.port}}
        (data / "hub.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
        await asyncio.to_thread(self._launch, data)
        try:
            async with asyncio.timeout(_START_S):
                self.facts = json.loads(await asyncio.to_thread(self._first_line))
        except (TimeoutError, ValueError) as error:
            await self.stop()
            words = self._log.read_text(errors="replace").strip()[-800:]
            raise Unavailable("sim.hub_start", "The hub does not start.", hint=f"Its last words: {words}") from error

    def _launch(self, data: Path) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hub.main", "serve", "--data", str(data), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _first_line(self) -> str:
        if self._process is None or self._process.stdout is None:
            return ""
        return self._process.stdout.readline()

    async def stop(self) -> None:
        """End it in order, and by force when it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        finally:
            if process.stdout is not None:
                process.stdout.close()
