"""The API's sockets: a Unix socket (mode 0660) and, if wanted, a loopback port.

It runs inside the daemon's event loop: no signal handlers, no periodic tick (uvicorn's own would wake ten times a
second), no access log. A socket file that an earlier process left is replaced only if nobody answers on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from agent.drift.metrics import NamedMetrics
from agent.inference.host import ModelHost
from agent.inference.local_api.app import LoopbackGuard, build_app
from agent.inference.local_api.control import Control
from shared import limits
from shared.errors import Conflict, StorageFailure

__all__ = ["LocalServer", "tune_process"]

_SWITCH_S = 0.0005
_KEEP_ALIVE_S = 75
_GRACE_S = 5
_BACKLOG = 128


def tune_process() -> None:
    """Settings of the daemon's interpreter that keep short requests short: other threads (MQTT, model loading) may hold
    the interpreter for 0.5 ms at a time instead of 5, and what exists now is not looked at by the garbage collector.
    """
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()


class _Server(uvicorn.Server):
    """uvicorn without signal handlers and without its tick."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=limits.MAX_INFER_CONNECTIONS_COUNT,
        )
        super().__init__(config)
        self._stopped = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self._stopped.wait()

    def stop(self) -> None:
        """End `serve` gracefully."""
        self.should_exit = True
        self._stopped.set()


class LocalServer:
    """`async with LocalServer(host, path, port, control) as server: …`; `port` 0 takes a free one, None none.

    `metrics`: where applications' counters and gauges go.

    Errors: `api.socket_in_use`, `api.port`, `storage.write`.
    """

    def __init__(
        self,
        host: ModelHost,
        path: Path | None,
        port: int | None = None,
        control: Control | None = None,
        metrics: NamedMetrics | None = None,
    ) -> None:
        self._host = host
        self._metrics = metrics
        self._path = path
        self._made_socket = False
        self._wanted_port = port
        self._control = control
        self._servers: list[_Server] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.port: int | None = None

    async def __aenter__(self) -> LocalServer:
        try:
            if self._path is not None:
                listener = _unix_socket(self._path)
                self._made_socket = True
                self._start(build_app(self._host, self._control, self._metrics), listener, "unix")
            if self._wanted_port is not None:
                listener = _loopback_socket(self._wanted_port)
                self.port = int(listener.getsockname()[1])
                self._start(LoopbackGuard(build_app(self._host, metrics=self._metrics)), listener, "loopback")
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def wait(self) -> None:
        """Return when a socket is no longer served, and raise what ended it; for whoever supervises."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()

    def _start(self, app: ASGIApp, listener: socket.socket, name: str) -> None:
        server = _Server(app)
        self._servers.append(server)
        self._tasks.append(asyncio.create_task(server.serve([listener]), name=f"local-api-{name}"))

    async def _stop(self) -> None:
        for server in self._servers:
            server.stop()
        await asyncio.gather(*self._tasks)
        self._servers, self._tasks = [], []
        if self._path is not None and self._made_socket:  # never the socket of another agent
            self._path.unlink(missing_ok=True)


def _unix_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() or path.is_symlink():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                if other.connect_ex(str(path)) == 0:
                    raise Conflict(
                        "api.socket_in_use",
                        f"Another agent already serves {path}.",
                        hint="Stop it, or give this one another state folder.",
                    )
            path.unlink()
        before = os.umask(0o117)  # the file is never open to others, not even between bind and chmod
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StorageFailure("storage.write", f"Cannot make the socket {path}: {error.strerror or error}.") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _loopback_socket(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Conflict(
            "api.port",
            f"Cannot listen on loopback port {port}: {error.strerror or error}.",
            hint="Choose another port.",
        ) from error
    return listener
