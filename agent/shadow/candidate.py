"""The daemon's end of the candidate's process: starts it, has it load, asks it one row at a time, within deadlines.

Blocking, for one thread. Rules: no more is read than an answer can have; a process that ends is `shadow.crashed`, one
that does not answer in time is killed and `shadow.hung`; both are final.
"""

from __future__ import annotations

import math
import select
import signal
import struct
import subprocess
import time
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

import msgspec
import numpy as np

from agent.ota.children import command, environment
from agent.shadow.child import ANSWERED, HEADER, LENGTH, MAX_READY_BYTES, Order, Ready
from shared.bundle.manifest import Manifest
from shared.errors import Conflict, SkerryError, Unavailable
from shared.preprocess.kernels import Array

__all__ = ["Candidate", "Reply"]

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one row. `output` is None when the model could not answer it."""

    output: Array | None
    took_ns: int
    cpu_ns: int


class Candidate:
    """A candidate's process; use it as a context, `load` first."""

    def __init__(self, manifest: Manifest, *, answer_s: float, module: str = "agent.shadow.child") -> None:
        """Start the process; error `shadow.not_started`."""
        self._answer_s = answer_s
        self._shape = tuple(manifest.output.shape)
        self._output_bytes = 4 * math.prod(self._shape)
        try:
            self._process = subprocess.Popen(
                command(module), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), bufsize=0
            )
        except OSError as error:
            raise Unavailable("shadow.not_started", f"The candidate cannot be started: {error}.") from error

    def load(self, order: Order, start_s: float) -> Ready:
        """What it says of itself once it is loaded; errors `shadow.crashed`, `shadow.hung`, `shadow.refused`."""
        until = time.monotonic() + start_s
        data = msgspec.json.encode(order)
        self._write(LENGTH.pack(len(data)) + data, until)
        (length,) = LENGTH.unpack(self._read(LENGTH.size, until))
        if length > MAX_READY_BYTES:
            raise self._ended()
        try:
            ready = msgspec.json.decode(self._read(length, until), type=Ready)
        except msgspec.DecodeError as error:
            raise self._ended() from error
        if ready.error is not None:
            raise Conflict("shadow.refused", ready.error.message, detail={"code": ready.error.code})
        return ready

    def ask(self, row: Array) -> Reply:
        """What the candidate says of one row of raw input; errors `shadow.crashed`, `shadow.hung`."""
        until = time.monotonic() + self._answer_s
        self._write(row.tobytes(), until)
        try:
            answered, took_ns, cpu_ns = HEADER.unpack(self._read(HEADER.size, until))
        except struct.error as error:
            raise self._ended() from error
        if answered != ANSWERED:
            return Reply(None, took_ns, cpu_ns)
        output = np.frombuffer(self._read(self._output_bytes, until), np.float32)
        return Reply(output.reshape(1, *self._shape), took_ns, cpu_ns)

    def kill(self) -> None:
        """Let the process end, from any thread; whoever asks it at the moment hears `shadow.crashed`."""
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, data: bytes, until: float) -> None:
        pipe, view = self._pipe(self._process.stdin), memoryview(data)
        while view:
            self._wait(pipe, select.POLLOUT, until)
            try:
                view = view[pipe.write(view[: select.PIPE_BUF]) or 0 :]
            except OSError as error:
                raise self._ended() from error

    def _read(self, count: int, until: float) -> bytes:
        pipe, found = self._pipe(self._process.stdout), bytearray()
        while len(found) < count:
            self._wait(pipe, select.POLLIN, until)
            piece = pipe.read(min(count - len(found), _PIECE_BYTES))
            if not piece:
                raise self._ended()
            found += piece
        return bytes(found)

    def _wait(self, pipe: IO[bytes], what: int, until: float) -> None:
        poll = select.poll()
        poll.register(pipe, what)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise Conflict("shadow.hung", "The candidate did not answer in time.")

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise Unavailable("shadow.not_started", "The candidate has no pipes.")
        return pipe

    def _ended(self) -> SkerryError:
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return Conflict("shadow.crashed", "The candidate's process answered with rubbish.")
        names = {-number.value: number.name for number in signal.Signals}
        return Conflict("shadow.crashed", f"The candidate ended its process ({names.get(status, status)}).")
