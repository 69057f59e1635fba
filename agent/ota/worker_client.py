"""The daemon's side of the worker: starts it, asks it, and kills it on a deadline, a cancellation or at the end.

This module imports nothing that the daemon should not carry; a test holds it to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from agent.ota.children import command, end, environment
from agent.ota.settings import OtaSettings
from agent.ota.worker_protocol import MAX_LINE_BYTES, Failed, Hello, Progress, Request, decode_reply, encode
from agent.paths import AgentPaths
from shared.errors import InvalidInput, SkerryError, Unavailable

__all__ = ["WorkerSession"]

T = TypeVar("T")


def _ignore(_bytes: int) -> None:
    """Progress that nobody asked for."""


class WorkerSession:
    """One worker process, started with the first request; one request at a time."""

    def __init__(self, paths: AgentPaths, settings: OtaSettings) -> None:
        self._hello = Hello(state=str(paths.root), settings=settings)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def ask(
        self, request: Request, kind: type[T], timeout_s: float, progress: Callable[[int], None] = _ignore
    ) -> T:
        """The worker's reply of type `kind`.

        Raises the failure that the worker reports, or `worker.crashed`, `worker.timeout` (both retriable). On any
        failure of the conversation, and when the caller is cancelled, the worker is killed before this returns.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._converse(request, progress)
        except TimeoutError as error:
            await self.close()
            raise Unavailable("worker.timeout", f"The worker needed over {timeout_s:g} s.", retriable=True) from error
        except BaseException:
            await self.close()
            raise
        if isinstance(reply, Failed):
            body = reply.error
            raise SkerryError(body.code, body.message, hint=body.hint, retriable=body.retriable, detail=body.detail)
        if not isinstance(reply, kind):
            await self.close()
            raise InvalidInput("worker.protocol", "The worker gave the answer to another question.")
        return reply

    async def close(self) -> None:
        """Kill the worker and wait until it is gone. Nothing that it leaves half done counts."""
        process, self._process = self._process, None
        if process is None:
            return
        await end(process)

    async def _converse(self, request: Request, progress: Callable[[int], None]) -> object:
        try:
            process = await self._started()
            if process.stdin is None or process.stdout is None:
                raise InvalidInput("worker.protocol", "The worker has no pipes.")
            process.stdin.write(encode(request))
            await process.stdin.drain()
            while line := await process.stdout.readline():
                reply = decode_reply(line)
                if not isinstance(reply, Progress):
                    return reply
                progress(reply.bytes)
        except (ConnectionError, ValueError) as error:
            raise Unavailable("worker.crashed", "The worker ended in the middle of work.", retriable=True) from error
        except OSError as error:
            raise Unavailable("worker.crashed", f"The worker cannot be started: {error}.", retriable=True) from error
        status = await process.wait()
        raise Unavailable(
            "worker.crashed", f"The worker ended in the middle of its work (status {status}).", retriable=True
        )

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *command("agent.ota.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(),
                limit=MAX_LINE_BYTES,
            )
            if self._process.stdin is not None:
                self._process.stdin.write(encode(self._hello))
        return self._process
