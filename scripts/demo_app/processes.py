"""Children of the demo: started with their output in a log file, ended without exception, whatever happens.

Each child is the leader of its own process group and dies with the demo (parent-death signal), so that neither
Ctrl-C nor a crash leaves one behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Children", "DemoFailed", "free_ports", "wait_until"]

_PR_SET_PDEATHSIG = 1
_GRACE_S = 10.0


class DemoFailed(Exception):
    """The demo cannot go on; the message says what was seen and where the log is."""


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float, interval_s: float = 0.1) -> None:
    """Return once `condition()` holds; `DemoFailed` names `what` after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise DemoFailed(f"Waited {timeout_s:.0f} s for {what}, in vain.")
        time.sleep(interval_s)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Children:
    """The processes that the demo started; a context manager that ends them all."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Start `command`; its output goes to `<logs>/<name>.log`."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(command),
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def log(self, name: str) -> Path:
        """The log file of a child."""
        return self._logs / f"{name}.log"

    def check(self) -> None:
        """`DemoFailed` if a child has ended by itself, with the last lines of its log."""
        for name, child in self._running.items():
            if child.poll() is not None:
                lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
                raise DemoFailed(f"{name} ended with code {child.returncode}:\n" + "\n".join(lines))

    def wait(self) -> None:
        """Block until a child ends or the person presses Ctrl-C."""
        while True:
            self.check()
            time.sleep(0.5)

    def stop(self) -> None:
        """End every child: SIGTERM, and after a grace time SIGKILL, in the reverse order of starting."""
        for child in reversed(self._running.values()):
            if child.poll() is None:
                child.terminate()
        end = time.monotonic() + _GRACE_S
        for child in self._running.values():
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self._running.clear()

    def __enter__(self) -> Children:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.stop()
