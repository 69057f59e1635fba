"""Running a run's worker from the hub, which never imports Flower itself.

Rules: a checkpoint is kept by the hub before anything else is heard; a worker that dies is started again from the last
one, and what was said about devices in the meantime (above all who was removed) holds there too; one that dies too
often without a complete round fails the run (`federated.worker_crashed`), so that a run which kills its worker cannot
go round for ever. What it says on stderr is drained, and the last of it is in the error.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, BinaryIO, cast

import msgspec

from hub.child import end_child, start_child
from hub.federated import protocol
from hub.federated.protocol import (
    Begin,
    Complete,
    Ended,
    Enrol,
    FromHub,
    FromWorker,
    Participant,
    Remove,
    Reserved,
)
from shared.errors import Conflict, InvalidInput, Unavailable

__all__ = ["RESTARTS", "RunProcess", "worker_command"]

RESTARTS = 3
_KEPT_LINES = 5
_LINGER_S = 10.0


def worker_command(python: str) -> list[str]:
    """The command of the worker that ships."""
    return [python, "-m", "hub.federated.worker"]


class RunProcess:
    """One run in a process of its own. `heard` gets every message of the worker, on the thread that called `run`."""

    def __init__(self, command: Sequence[str], folder: Path, heard: Callable[[FromWorker], None]) -> None:
        self._command = list(command)
        self._folder = folder
        self._heard = heard
        self._lock = threading.Lock()
        self._child: Popen[bytes] | None = None
        self._participants: dict[str, Participant] = {}
        self._stopped = False

    def run(self, begin: Begin) -> Ended:
        """The run to its end. Errors `federated.worker_crashed`, `federated.stopped` (the hub ends; it can go on)."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            self._participants = {device.device_id: device for device in begin.participants}
        crashes = 0
        while crashes <= RESTARTS:
            kept, completed, ended, last = self._once(begin)
            if ended is not None:
                return ended
            if self._stopped:
                raise Conflict("federated.stopped", "The hub ends; the run goes on from its last round afterwards.")
            crashes = 0 if completed else crashes
            crashes += 1
            begin = msgspec.structs.replace(begin, checkpoint=kept)
        raise Unavailable(
            "federated.worker_crashed",
            f"The run's worker died {crashes} times without a complete round{': ' if last else ''}{last}"[:400],
            hint="The run can go on from its last complete round; look at the memory of the machine first.",
        )

    def send(self, message: FromHub) -> None:
        """Tell the worker something; what it does not hear because it has just died is in the next one's `Begin`."""
        with self._lock:
            match message:
                case Enrol(participants=participants):
                    self._participants.update((device.device_id, device) for device in participants)
                case Remove(device_id=device_id):
                    self._participants.pop(device_id, None)
            self._write(message)

    def stop(self) -> None:
        """End the worker; the run can go on from its last checkpoint another time."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                end_child(self._child)

    def kill(self) -> None:
        """End the worker as a crash would."""
        with self._lock:
            if self._child is not None:
                end_child(self._child)

    def _once(self, begin: Begin) -> tuple[bytes, bool, Ended | None, str]:
        """One worker: the last checkpoint, whether a round was complete, how the run ended (None: the worker died), and
        its last words."""
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        kept, completed, ended = begin.checkpoint, False, None
        with start_child(self._command, self._folder, PIPE) as child:
            drain = threading.Thread(target=_drain, args=(child.stderr, lines), name="federated-stderr", daemon=True)
            drain.start()
            self._begun(child, begin)
            try:
                while ended is None and (message := _next(child)) is not None:
                    if isinstance(message, Complete | Reserved):
                        kept = message.checkpoint
                    completed = completed or isinstance(message, Complete)
                    self._heard(message)
                    ended = message if isinstance(message, Ended) else None
            finally:
                self._over(child, drain)
        return kept, completed, ended, (lines[-1] if lines else "")

    def _begun(self, child: Popen[bytes], begin: Begin) -> None:
        """The worker hears of its run before it hears of anything else."""
        with self._lock:
            self._child = child
            if self._stopped:
                end_child(child)
            self._write(msgspec.structs.replace(begin, participants=list(self._participants.values())))

    def _write(self, message: FromHub) -> None:
        if self._child is not None and self._child.stdin is not None:
            try:
                protocol.write(cast(BinaryIO, self._child.stdin), message)
            except (BrokenPipeError, ValueError):
                return  # it died: `run` starts another

    def _over(self, child: Popen[bytes], drain: threading.Thread) -> None:
        with self._lock:
            self._child = None
            end_child(child)
            if child.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # what it should have heard is of no use to it any more
                    child.stdin.close()
        drain.join(_LINGER_S)


def _next(child: Popen[bytes]) -> FromWorker | None:
    """The worker's next message; a worker that talks nonsense counts as one that died."""
    try:
        return None if child.stdout is None else protocol.read_from_worker(cast(BinaryIO, child.stdout))
    except InvalidInput:
        return None


def _drain(stderr: IO[bytes] | None, lines: deque[str]) -> None:
    if stderr is not None:
        for line in iter(lambda: stderr.readline(2000), b""):
            if text := line.decode("utf-8", "replace").strip()[:200]:
                lines.append(text)
