"""The daemon's end of one training process: starts it, speaks frames with it, and ends it.

Rules: no more is read than a frame may have; a process that speaks nonsense or dies is over, with the reason; ending it
always leaves no process behind, also when the daemon is cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from pathlib import Path

from agent.ota.children import command, end, environment
from agent.training.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    Ended,
    FromDaemon,
    FromTrainer,
    Start,
    decode_from_trainer,
    frame,
)
from shared.errors import Conflict, InvalidInput, Unavailable

__all__ = ["Session"]

_LEAVE_S = 5.0


class Session:
    """A running training process; made by `open`."""

    def __init__(self, process: Process, start: Start) -> None:
        self.start = start
        self._process = process

    @classmethod
    async def open(cls, start: Start, *, module: str = "agent.training.child") -> Session:
        """Start the process; error `training.not_started`."""
        extra = {"FLWR_HOME": str(Path(start.state) / "flower"), "MALLOC_ARENA_MAX": "2"}
        try:
            process = await asyncio.create_subprocess_exec(
                *command(module),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(extra),
                limit=MAX_FRAME_BYTES,
            )
        except OSError as error:
            raise Unavailable("training.not_started", f"The training cannot be started: {error}.") from error
        session = cls(process, start)
        session.send(start)
        return session

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, message: FromDaemon) -> None:
        """Tell the process; one that is gone hears nothing, and `next` says so."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(frame(message))

    async def next(self) -> FromTrainer:
        """What it says next; after its last word, `Ended` with what its end was."""
        try:
            if self._process.stdout is None:
                raise asyncio.IncompleteReadError(b"", None)
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            if length > MAX_FRAME_BYTES:
                raise InvalidInput("training.frame", f"A frame has {length} bytes.")
            return decode_from_trainer(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            return Ended(error=(await self._death()).body())
        except InvalidInput as error:
            return Ended(error=error.body())

    async def _death(self) -> Conflict:
        try:
            async with asyncio.timeout(_LEAVE_S):
                status = await self._process.wait()
        except TimeoutError:
            return Conflict("training.crashed", "The training process closed its output.")
        names = {-number.value: number.name for number in signal.Signals}
        return Conflict("training.crashed", f"The training process ended by itself ({names.get(status, status)}).")

    async def leave(self) -> None:
        """Let it end in order, for a moment; then `close`."""
        if self._process.stdin is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._process.wait()
        await self.close()

    async def close(self) -> None:
        """End it at once."""
        await end(self._process)
