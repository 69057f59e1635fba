"""A way to the hub that can be cut in the middle of what a device sends."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["Way"]


class Way:
    """A TCP relay to `port` of this machine. `cut_after`: so many bytes more go up, then nothing does, until mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._left: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.cut = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> Way:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._break()

    def cut_after(self, size: int) -> None:
        self._left = size

    def mend(self) -> None:
        self._left = None
        self.cut.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut.is_set():
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, there_writer}
        up = asyncio.create_task(self._pipe(reader, there_writer, counted=True))
        down = asyncio.create_task(self._pipe(there_reader, writer, counted=False))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        for one in (writer, there_writer):
            self._writers.discard(one)
            one.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 14):
                if counted and self._left is not None:
                    self._left -= len(data)
                    if self._left <= 0:
                        self._break()
                        return
                writer.write(data)
                await writer.drain()

    def _break(self) -> None:
        self.cut.set()
        for writer in self._writers:
            writer.transport.abort()
