"""Running the delta's worker from the hub. Whatever happens in there comes out as an error with a code.

Errors that say something about the pair are final (`delta.not_worth`, `bundle.*`, `delta.not_exact`); those that say
something about this machine now are `retriable` (`delta.timeout`, `delta.worker_failed`).
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hub.child import Children, Ended
from hub.deltas.protocol import DELTA_FILE, Limits, Request, Response
from shared import limits as bounds
from shared.errors import Conflict, InternalError, SkerryError, Unavailable

__all__ = ["DeltaMaker"]

_LOG = logging.getLogger("skerry.hub.deltas")
_PREFIX = "delta-"
_ANSWER_BYTES = 64 * 1024


class DeltaMaker:
    """Makes deltas, one at a time in each call. `scratch`: a folder for what is unfinished."""

    def __init__(self, scratch: Path, limits: Limits, command: Sequence[str] | None = None) -> None:
        self._scratch = scratch
        self._limits = limits
        self._command = list(command or (sys.executable, "-m", "hub.deltas.worker"))
        self._children = Children()

    @property
    def timeout_s(self) -> float:
        """How long one may take."""
        return self._limits.timeout_s

    def stop(self) -> None:
        """End what runs, because the hub ends (`delta.stopped`)."""
        self._children.stop()

    @contextmanager
    def make(self, old: Path, new: Path, from_sha256: str, to_sha256: str) -> Iterator[Path]:
        """The file with the delta, for as long as the block lasts; it is at most so long that it is worth sending."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=_PREFIX) as folder:
            found = self._run(Request(scratch=folder, old=str(old), new=str(new)), Path(folder))
            if (found.from_sha256, found.to_sha256) != (from_sha256, to_sha256):
                raise InternalError("delta.wrong_pair", "A stored bundle is not what its name says.")
            if found.bytes * 100 > new.stat().st_size * bounds.MAX_DELTA_PERCENT:
                raise Conflict("delta.not_worth", f"A delta of {found.bytes} bytes would save too little.")
            yield Path(folder) / DELTA_FILE

    def _run(self, request: Request, folder: Path) -> Response:
        command = [*self._command, msgspec.json.encode(self._limits).decode()]
        data = msgspec.json.encode(request)
        ended = self._children.run(
            command, data, folder, timeout_s=self._limits.timeout_s, answer_bytes=_ANSWER_BYTES
        )
        response = _interpret(ended)
        for missing in response.shortfalls:
            _LOG.warning("the delta's worker is not confined in full: %s: %s", missing.part, missing.reason)
        if response.problem is not None:
            problem = response.problem
            raise SkerryError(problem.code, problem.message, retriable=problem.code == "delta.worker_failed")
        return response

    def _sweep(self) -> None:
        """Remove what makings have left behind whose hub was killed."""
        limit = time.time() - 2 * self._limits.timeout_s
        for folder in self._scratch.glob(f"{_PREFIX}*"):
            try:
                if folder.stat().st_mtime < limit:
                    shutil.rmtree(folder, ignore_errors=True)
            except FileNotFoundError:
                continue  # it has just ended


def _interpret(ended: Ended) -> Response:
    if ended.stopped:
        raise Unavailable("delta.stopped", "The hub ends.", retriable=True)
    if ended.over:
        raise Unavailable("delta.timeout", "The delta was not made in time.", retriable=True)
    try:
        return msgspec.json.decode(ended.answer[:_ANSWER_BYTES], type=Response)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        last = f": {ended.last}" if ended.last else ""
        raise Unavailable(
            "delta.worker_failed", f"The worker ended with exit code {ended.code}{last}.", retriable=True
        ) from error
