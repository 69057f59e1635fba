"""Running a short-lived child of the hub: a request in, a bounded answer out, and always an end.

Rules: the child gets nothing of the hub's environment, which may hold secrets; whatever happens in it (a crash, a
limit, silence, noise) comes back as data; when the time is over, or the hub ends, it and what it started are killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import hub

__all__ = ["Children", "Ended", "end_child", "start_child"]

_STDERR_SHOWN_BYTES = 2000
_LINGER_S = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. `answer`: at most one byte over the bound. `over`: its time was. `last`: of its complaints."""

    answer: bytes
    code: int
    over: bool
    stopped: bool
    last: str


class Children:
    """Starts children and can end all that run."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, command: Sequence[str], request: bytes, folder: Path, *, timeout_s: float, answer_bytes: int
    ) -> Ended:
        """Run a command in `folder` with `request` on its standard input (smaller than a pipe's buffer)."""
        with tempfile.TemporaryFile(dir=folder) as stderr, start_child(command, folder, stderr) as child:
            over = threading.Event()
            timer = threading.Timer(timeout_s, _stop, (child, over))
            timer.start()
            self._add(child)
            try:
                answer = _converse(child, request, answer_bytes)
                code = _ended(child)
            finally:
                timer.cancel()
                end_child(child)
                self._running.discard(child)
            return Ended(answer, code, over.is_set(), self._stopped, _last_line(stderr))

    def stop(self) -> None:
        """End what runs; whoever is started afterwards ends at once."""
        with self._lock:
            self._stopped = True
            for child in list(self._running):
                end_child(child)

    def _add(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.add(child)
            if self._stopped:
                end_child(child)


def start_child(command: Sequence[str], folder: Path, stderr: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a command in `folder` with a clean environment and pipes; it leads a group of its own."""
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=folder,
        env=_environment(folder),
        start_new_session=True,
    )


def _environment(folder: Path) -> dict[str, str]:
    root = Path(hub.__file__).parent.parent
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([str(root), *(path for path in sys.path if path)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _converse(child: subprocess.Popen[bytes], request: bytes, answer_bytes: int) -> bytes:
    if child.stdin is None or child.stdout is None:
        return b""
    with contextlib.suppress(BrokenPipeError), child.stdin as stdin:  # one that ends at once may still have answered
        stdin.write(request)
    with child.stdout as stdout:
        return stdout.read(answer_bytes + 1)


def _ended(child: subprocess.Popen[bytes]) -> int:
    """The exit code; a child that has said everything and stays is ended."""
    try:
        return child.wait(_LINGER_S)
    except subprocess.TimeoutExpired:
        end_child(child)
        return child.wait()


def _stop(child: subprocess.Popen[bytes], over: threading.Event) -> None:
    over.set()
    end_child(child)


def end_child(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it may have started; harmless when it has ended."""
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended between the two lines


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - _STDERR_SHOWN_BYTES))
    lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
