"""`fiu-run -x python -m tests.faults.fiu_server`: lives of the agent whose C library fails, each in a fork of its own.

One `Order` per line on standard input, one `Outcome` per line on standard output. libfiu's points are switched on in
the fork only. With `k` the k-th input/output call of the life fails with `errno`, and nothing else does; otherwise each
call fails with `probability`, by `seed`. A life that takes too long is killed, which is a power cut like any other.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.faults.facts import load_facts
from tests.faults.scenarios import SCENARIOS

__all__ = ["Order", "Outcome", "main"]

_POINTS = b"posix/io/*"
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
    """How it ended: `rest`, `failed` (the life itself gave up) or `killed`; how many calls there were, if counted."""

    end: str
    calls: int = 0


def _enable(order: Order, counter: mmap.mmap) -> object:
    """Let calls fail from now on; what is returned must live as long as they may."""
    fiu: Any = ctypes.CDLL(None)
    if order.probability:
        fiu.fiu_set_prng_seed(ctypes.c_uint(order.seed))
        chance = ctypes.c_float(order.probability)
        if fiu.fiu_enable_random(_POINTS, 1, ctypes.c_void_p(order.errno), 0, chance):
            raise OSError("libfiu does not know its points")
        return fiu

    def decide(name: bytes, failnum: Any, failinfo: Any, flags: Any) -> int:
        calls = struct.unpack("q", counter[:8])[0] + 1
        counter[:8] = struct.pack("q", calls)
        failinfo[0] = order.errno
        return int(calls == order.k)

    callback = _CALLBACK(decide)
    if fiu.fiu_enable_external(_POINTS, 1, None, 0, callback):
        raise OSError("libfiu does not know its points")
    return callback


def _live(order: Order, counter: mmap.mmap) -> None:
    """The forked life; never returns."""
    status = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 0)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        facts = load_facts(Path(order.facts))
        keep = _enable(order, counter)
        asyncio.run(SCENARIOS[order.scenario].act(facts, Path(order.root), True))
        status = 0 if keep else 1
    finally:
        os._exit(status)


def _fork(order: Order) -> Outcome:
    counter = mmap.mmap(-1, 8)
    pid = os.fork()
    if pid == 0:
        _live(order, counter)
    fd = os.pidfd_open(pid)
    try:
        late = not select.select([fd], [], [], order.limit_s)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(fd)
    end = "killed" if late else "rest" if status == 0 else "failed"
    return Outcome(end=end, calls=struct.unpack("q", counter[:8])[0])


def main() -> None:
    """Serve until the end of input."""
    for line in sys.stdin.buffer:
        outcome = _fork(msgspec.json.decode(line, type=Order))
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
