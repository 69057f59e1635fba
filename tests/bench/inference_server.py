"""The processes under test of `inference_socket`: the digits model behind the local API on a Unix socket, and beside it
a bare asyncio server that answers everything with the same bytes, which is the floor for any server in this language.

`python -m tests.bench.inference_server SLOT SOCKET FLOOR_SOCKET` prints one line when it serves and ends when standard
input does.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent.inference.host import ModelHost
from agent.inference.local_api.server import LocalServer, tune_process

__all__: list[str] = []


class _Floor(asyncio.Protocol):
    """Answers each segment received with one fixed response."""

    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._ANSWER)


async def _serve(directory: Path, path: Path, floor: Path) -> None:
    host = ModelHost()
    host.swap("digits", host.load("digits", directory))
    await asyncio.get_running_loop().create_unix_server(_Floor, str(floor))
    async with LocalServer(host, path):
        tune_process()
        print("serving", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    found = host.take("digits")
    print(found.requests, found.errors, found.latency_p50_us, found.latency_p99_us, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(*map(Path, sys.argv[1:4])))
