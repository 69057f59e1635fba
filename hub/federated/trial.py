"""Trying out a candidate in a child process: what only its running model can say. The hub never loads a model itself.

The child reads an unpacked bundle whose head already has the new weights and answers with the golden outputs, the
reference and the calibration as bytes; it writes no file and composes no archive, so that whatever a hostile model made
of it, the other parts of the candidate are those that the hub put there.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hub.child import Children, Ended
from hub.gates.protocol import Limits
from shared.errors import ErrorBody, InternalError, InvalidInput, Unavailable
from shared.sandbox.wish import Shortfall

__all__ = ["Trial", "TrialRequest", "TrialResponse"]

_LOG = logging.getLogger(__name__)
_ANSWER_BYTES = 64 * 1024 * 1024


class TrialRequest(msgspec.Struct, frozen=True, kw_only=True):
    """bundle: the folder with its files and manifest. dataset: an .npz to renew the reference with, if there is one."""

    bundle: str
    scratch: str
    dataset: str | None = None


class TrialResponse(msgspec.Struct, frozen=True, kw_only=True):
    """golden: the outputs (.npy). reference, calibration: renewed on the data set; empty: they were not.

    kept: why the reference could not be renewed, which says nothing against the candidate. problem: why nothing else is
    here. shortfalls: what this system does not give of the child's confinement.
    """

    golden: bytes = b""
    reference: bytes = b""
    calibration: bytes = b""
    kept: ErrorBody | None = None
    problem: ErrorBody | None = None
    shortfalls: list[Shortfall] = []


class Trial:
    """Starts the child. `limits` are those of gates; error codes `federated.trial_failed`, `federated.stopped`."""

    def __init__(self, limits: Limits, command: Sequence[str] | None = None) -> None:
        self._limits = limits
        self._command = list(command or (sys.executable, "-m", "hub.federated.trial_worker"))
        self._children = Children()

    def stop(self) -> None:
        """End what runs, because the hub ends."""
        self._children.stop()

    def run(self, bundle: Path, dataset: Path | None, scratch: Path) -> TrialResponse:
        """Try the bundle that is unpacked in `bundle`; errors also those that say that its parts do not fit."""
        with tempfile.TemporaryDirectory(dir=scratch, prefix="trial-") as folder:
            request = TrialRequest(
                bundle=str(bundle), scratch=folder, dataset=None if dataset is None else str(dataset)
            )
            ended = self._children.run(
                [*self._command, msgspec.json.encode(self._limits).decode()],
                msgspec.json.encode(request),
                Path(folder),
                timeout_s=self._limits.timeout_s,
                answer_bytes=_ANSWER_BYTES,
            )
        response = _interpret(ended)
        for missing in response.shortfalls:
            _LOG.warning("the candidate's trial is not confined in full: %s: %s", missing.part, missing.reason)
        if response.problem is not None:
            problem = response.problem
            raise InvalidInput(problem.code, problem.message, hint=problem.hint)
        return response


def _interpret(ended: Ended) -> TrialResponse:
    if ended.stopped:
        raise Unavailable("federated.stopped", "The hub ends; the run is handed over afterwards.", retriable=True)
    try:
        if ended.over or len(ended.answer) > _ANSWER_BYTES:
            raise InternalError("federated.trial_failed", "The candidate's trial did not end, or said too much.")
        return msgspec.msgpack.decode(ended.answer, type=TrialResponse)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        last = f": {ended.last}" if ended.last else ""
        raise InternalError(
            "federated.trial_failed", f"The candidate's trial ended with exit code {ended.code}{last}."[:400]
        ) from error
