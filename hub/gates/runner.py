"""Running the gate's worker from the hub, which never loads a model itself.

Whatever happens in there (a crash, a limit, silence, noise) comes out as a measurement with a problem and no values, so
that the policy fails the version. A few run at a time; who comes when all are busy is told to come back.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hub.child import Children, Ended
from hub.gates.protocol import BundleFile, Limits, Measured, Request, Response
from shared import limits as bounds
from shared.errors import ErrorBody, Unavailable

__all__ = ["GateRunner"]

_LOG = logging.getLogger(__name__)
_PREFIX = "gate-"
_WAIT_S = 60.0


class GateRunner:
    """Starts worker processes. `scratch`: a folder for unpacked bundles; `at_once`: how many run at a time."""

    def __init__(self, scratch: Path, limits: Limits, at_once: int = 1, command: Sequence[str] | None = None) -> None:
        self._scratch = scratch
        self._limits = limits
        self._slots = threading.BoundedSemaphore(at_once)
        self._command = list(command or (sys.executable, "-m", "hub.gates.worker"))
        self._children = Children()

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
        command = [*self._command, msgspec.json.encode(self._limits).decode()]
        ended = self._children.run(
            command,
            msgspec.json.encode(request),
            folder,
            timeout_s=self._limits.timeout_s,
            answer_bytes=bounds.MAX_GATE_RESULT_BYTES,
        )
        return _interpret(ended)


def _interpret(ended: Ended) -> Response:
    if ended.over:
        return _failed("gate.timeout", "The evaluation did not finish in time.")
    if len(ended.answer) > bounds.MAX_GATE_RESULT_BYTES:
        return _failed("gate.worker_crashed", "The evaluation answered with too much.")
    try:
        response = msgspec.json.decode(ended.answer, type=Response)
        for missing in response.shortfalls:
            _LOG.warning("the gate's worker is not confined in full: %s: %s", missing.part, missing.reason)
        return response
    except (msgspec.DecodeError, UnicodeDecodeError):
        last = f": {ended.last}" if ended.last else ""
        return _failed("gate.worker_crashed", f"The evaluation ended with exit code {ended.code}{last}.")


def _failed(code: str, message: str) -> Response:
    return Response(candidate=Measured(problem=ErrorBody(code=code, message=message)))
