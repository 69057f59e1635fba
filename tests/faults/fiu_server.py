"""`fiu-run -x python -m tests.faults.fiu_server`: lives of the agent whose C library fails, each in a fork of its own.

One `Order` per line on standard input, one `Outcome` per line on standard output. libfiu's points are switched on in
the fork only. With `k` the k-th input/output call of the life fails with `errno`, and nothing else does; otherwise each
call fails with `probability`, by `seed`. libfiu does not count what it fails, so it asks us for each call
(`fiu_enable_external`), and we count; what the test itself looks up (`aside`) is neither failed nor counted. A life
that takes too long is killed, which is a power cut like any other.

An order with neither is a rehearsal: it is lived in this process, without faults, so that the forks find every module
imported and spend their time, and their faults, on the installation.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import os
import select
import signal
import struct
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tests.faults.aside import is_aside
from tests.faults.facts import load_facts
from tests.faults.scenarios import SCENARIOS

__all__ = ["Order", "Outcome", "main"]

_POINTS = b"posix/io/*"
_TWO = struct.Struct("qq")
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_uint),
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A life to be lived over `root`."""

    facts: str
    scenario: str
    root: str
    errno: int = 0
    k: int = 0
    seed: int = 0
    probability: float = 0.0
    limit_s: float = 5.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended: `rest`, `failed` (the life itself gave up) or `killed`; how many calls there were, and failed."""

    end: str
    calls: int = 0
    faults: int = 0


class _Counts:
    """Two numbers that a life and who started it share, even when the life is killed."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _TWO.size)

    def get(self) -> tuple[int, int]:
        calls, faults = _TWO.unpack(self._memory[: _TWO.size])
        return calls, faults

    def add(self, fails: bool) -> None:
        calls, faults = self.get()
        self._memory[: _TWO.size] = _TWO.pack(calls + 1, faults + fails)


def _enable(order: Order, counts: _Counts) -> object:
    """Let calls fail from now on; what is returned must live as long as they may."""
    library: Any = ctypes.CDLL(None)
    library.srandom(order.seed)  # libfiu chooses among a function's errors with it when none is wished for.
    random = Random(order.seed).random

    def decide(name: bytes, failnum: Any, failinfo: Any, flags: Any) -> int:
        if is_aside():
            return 0
        fails = counts.get()[0] + 1 == order.k if order.k else random() < order.probability
        counts.add(fails)
        failinfo[0] = order.errno
        return int(fails)

    callback = _CALLBACK(decide)
    if library.fiu_enable_external(_POINTS, 1, None, 0, callback):
        raise OSError("libfiu does not know its points")
    return callback


def _live(order: Order, counts: _Counts) -> None:
    """The forked life; never returns."""
    status = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 0)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        facts = load_facts(Path(order.facts))
        keep = _enable(order, counts)
        asyncio.run(SCENARIOS[order.scenario].act(facts, Path(order.root), True))
        status = 0 if keep else 1
    finally:
        os._exit(status)


def _fork(order: Order) -> Outcome:
    counts = _Counts()
    pid = os.fork()
    if pid == 0:
        _live(order, counts)
    fd = os.pidfd_open(pid)
    try:
        late = not select.select([fd], [], [], order.limit_s)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)
    calls, faults = counts.get()
    return Outcome(end="killed" if late else "rest" if status == 0 else "failed", calls=calls, faults=faults)


def _rehearse(order: Order) -> Outcome:
    asyncio.run(SCENARIOS[order.scenario].act(load_facts(Path(order.facts)), Path(order.root), True))
    gc.collect()
    gc.freeze()
    return Outcome(end="rest")


def main() -> None:
    """Serve until the end of input."""
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        outcome = _fork(order) if order.k or order.probability else _rehearse(order)
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
