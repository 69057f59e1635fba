"""Running the gate's worker from the hub, which never loads a model itself.

Whatever happens in there (a crash, a limit, silence, noise) comes out as a measurement with a problem and no values, so
that the policy fails the version. A few run at a time; who comes when all are busy is told to come back.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

import hub
from hub.gates.protocol import BundleFile, Limits, Measured, Request, Response
from shared import limits as bounds
from shared.errors import ErrorBody, Unavailable

__all__ = ["GateRunner"]

_LOG = logging.getLogger(__name__)
_STDERR_SHOWN_BYTES = 2000
_PREFIX = "gate-"
_WAIT_S = 60.0
_LINGER_S = 10.0


class GateRunner:
    """Starts worker processes. `scratch`: a folder for unpacked bundles; `at_once`: how many run at a time."""

    def __init__(self, scratch: Path, limits: Limits, at_once: int = 1, command: Sequence[str] | None = None) -> None:
        self._scratch = scratch
        self._limits = limits
        self._slots = threading.BoundedSemaphore(at_once)
        self._command = list(command or (sys.executable, "-m", "hub.gates.worker"))

    def measure(self, dataset: Path, candidate: BundleFile, production: BundleFile | None) -> Response:
        """Measure in a child process; error `gate.busy`."""
        if not self._slots.acquire(timeout=_WAIT_S):
            raise Unavailable("gate.busy", "Other gates are running.", hint="Try again in a minute.", retriable=True)
        try:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix=_PREFIX) as folder:
                request = Request(scratch=folder, dataset=str(dataset), candidate=candidate, production=production)
                return self._run(request, Path(folder))
        finally:
            self._slots.release()

    def _sweep(self) -> None:
        """Remove what runs have left behind whose hub was killed."""
        limit = time.time() - 2 * self._limits.timeout_s - _WAIT_S
        for folder in self._scratch.glob(f"{_PREFIX}*"):
            try:
                if folder.stat().st_mtime < limit:
                    shutil.rmtree(folder, ignore_errors=True)
            except FileNotFoundError:
                continue  # its run has just ended

    def _run(self, request: Request, folder: Path) -> Response:
        with tempfile.TemporaryFile(dir=folder) as stderr, self._start(folder, stderr) as child:
            over = threading.Event()
            timer = threading.Timer(self._limits.timeout_s, _stop, (child, over))
            timer.start()
            try:
                answer = _converse(child, msgspec.json.encode(request))
                code = _ended(child)
            finally:
                timer.cancel()
                _kill(child)
            return _interpret(answer, code, over.is_set(), stderr)

    def _start(self, folder: Path, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, msgspec.json.encode(self._limits).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the hub's own environment, which may hold secrets."""
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


def _converse(child: subprocess.Popen[bytes], request: bytes) -> bytes:
    """Send the request (smaller than a pipe's buffer) and read a bounded answer."""
    if child.stdin is None or child.stdout is None:
        return b""
    try:
        with child.stdin as stdin:
            stdin.write(request)
    except BrokenPipeError:
        return b""  # it died at once; its exit code says why
    with child.stdout as stdout:
        return stdout.read(bounds.MAX_GATE_RESULT_BYTES + 1)


def _ended(child: subprocess.Popen[bytes]) -> int:
    """The exit code; a child that has said everything and stays is ended."""
    try:
        return child.wait(_LINGER_S)
    except subprocess.TimeoutExpired:
        _kill(child)
        return child.wait()


def _stop(child: subprocess.Popen[bytes], over: threading.Event) -> None:
    over.set()
    _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it may have started; harmless when it has ended."""
    if child.poll() is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it ended between the two lines


def _interpret(answer: bytes, code: int, over: bool, stderr: IO[bytes]) -> Response:
    if over:
        return _failed("gate.timeout", "The evaluation did not finish in time.")
    if len(answer) > bounds.MAX_GATE_RESULT_BYTES:
        return _failed("gate.worker_crashed", "The evaluation answered with too much.")
    try:
        response = msgspec.json.decode(answer, type=Response)
        for missing in response.shortfalls:
            _LOG.warning("the gate's worker is not confined in full: %s: %s", missing.part, missing.reason)
        return response
    except (msgspec.DecodeError, UnicodeDecodeError):
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - _STDERR_SHOWN_BYTES))
        lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        return _failed("gate.worker_crashed", f"The evaluation ended with exit code {code}{last}.")


def _failed(code: str, message: str) -> Response:
    return Response(candidate=Measured(problem=ErrorBody(code=code, message=message)))
