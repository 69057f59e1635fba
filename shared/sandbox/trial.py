"""`python -m shared.sandbox.trial`: a confined child tries what must be impossible, and says what it could do.

One `Confinement` as JSON on standard input, one `Trial` on standard output. Each act is something that hostile code in
a model would try; it is harmless where it succeeds. Believing the kernel's version would say less than trying.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement, Shortfall

__all__ = ["ACTS", "Trial", "try_all"]

_MAX_ORDER_BYTES = 64 * 1024
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENETUNREACH, errno.ENETDOWN, errno.EXDEV)
_CLONE_NEW_USER = 0x10000000


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """`possible`: acts that were not refused. `shortfalls`: as `confine` says. `confined_ms`: what confining took."""

    possible: list[str]
    shortfalls: list[Shortfall]
    confined_ms: float


def _connect(family: socket.AddressFamily, address: tuple[str, int] | str) -> Callable[[], None]:
    def act() -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as made:
            made.connect(address)

    return act


def _listen() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        return


def _write_outside() -> None:
    for folder in ("/tmp", "/var/tmp", os.path.expanduser("~"), "/dev/shm"):
        path = Path(folder) / f".skerry-trial-{os.getpid()}"
        try:
            path.touch()
        except OSError:
            continue
        path.unlink()
        return
    raise PermissionError(errno.EACCES, "nothing outside may be written")


def _read_private() -> None:
    for name in ("/tmp", "/home", "/root", "/var"):
        try:
            os.listdir(name)
        except OSError:
            continue
        return
    raise PermissionError(errno.EACCES, "nothing outside may be read")


def _become_root() -> None:
    os.setuid(1 if os.getuid() == 0 else 0)


def _unshare() -> None:
    from shared.sandbox import kernel

    kernel.unshare(_CLONE_NEW_USER)


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _run_program() -> None:
    os.execv("/nowhere", ["nowhere"])  # nothing is there: whether it was looked for at all is the answer


def _signal_parent() -> None:
    os.kill(os.getppid(), 0)


ACTS: dict[str, Callable[[], None]] = {
    "reach the internet": _connect(socket.AF_INET, ("192.0.2.1", 9)),
    "reach the loopback": _connect(socket.AF_INET, ("127.0.0.1", 9)),
    "reach a local socket": _connect(socket.AF_UNIX, "/nowhere"),
    "listen": _listen,
    "write outside its folder": _write_outside,
    "read other people's files": _read_private,
    "become another user": _become_root,
    "make a namespace": _unshare,
    "signal its parent": _signal_parent,
    "start a process": _fork,
    "run a program": _run_program,
}
"""In an order in which one that succeeds does not spoil the next."""


def try_all() -> list[str]:
    """The acts that were possible."""
    possible = []
    for name, act in ACTS.items():
        try:
            act()
        except OSError as error:
            if error.errno in _REFUSED:
                continue
        possible.append(name)
    return possible


def main() -> None:
    """Confine as ordered, try everything, answer."""
    order = msgspec.json.decode(sys.stdin.buffer.read(_MAX_ORDER_BYTES), type=Confinement)
    started = time.perf_counter()
    shortfalls = confine(order)
    confined_ms = (time.perf_counter() - started) * 1000
    answer = Trial(possible=try_all(), shortfalls=shortfalls, confined_ms=confined_ms)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
