"""What the daemon has said to its training process: read in a thread, asked by the one that trains.

The end of the daemon's frames ends the process at once, whatever it does, because nobody is left to answer for it.
"""

from __future__ import annotations

import os
import threading
from typing import BinaryIO

from agent.training.protocol import End, Expect, Halt, Verdict, decode_from_daemon, read
from shared.errors import Conflict, SkerryError, Unavailable

__all__ = ["Inbox"]

_DAEMON_GONE = 3


class Inbox:
    """Follows `source` until the process ends."""

    def __init__(self, source: BinaryIO) -> None:
        self.ending = False
        """The daemon wants this process to end."""
        self._source = source
        self._changed = threading.Condition()
        self._expects: list[Expect] = []
        self._verdict: Verdict | None = None
        self._halt: Halt | None = None
        self._thread = threading.Thread(target=self._follow, name="daemon", daemon=True)

    def start(self) -> None:
        """Begin to read; not before the process is confined."""
        self._thread.start()

    def expects(self) -> list[Expect]:
        """The offers that were accepted since the last call."""
        with self._changed:
            found, self._expects = self._expects, []
            return found

    def wait(self, timeout_s: float) -> None:
        """Until the daemon says something that ends a pause, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.ending or bool(self._expects), timeout_s)

    def verdict(self, timeout_s: float) -> Verdict:
        """The daemon's answer about the task that was asked about; a new task begins. Error `training.no_verdict`."""
        with self._changed:
            self._changed.wait_for(lambda: self.ending or self._verdict is not None, timeout_s)
            found, self._verdict, self._halt = self._verdict, None, None
        if found is None:
            raise Unavailable("training.no_verdict", "The agent did not say whether the device may train now.")
        return found

    def check(self) -> None:
        """Return while the present task may go on, else raise why not (`training.*`)."""
        with self._changed:
            halt, ending = self._halt, self.ending
        if halt is not None:
            raise Conflict(halt.code, halt.reason)
        if ending:
            raise Conflict("training.cancelled", "The agent ended the training.")

    def _follow(self) -> None:
        try:
            while (data := read(self._source)) is not None:
                self._take(data)
        except (SkerryError, OSError):
            pass  # a daemon that speaks no longer sense is as good as gone
        os._exit(_DAEMON_GONE)

    def _take(self, data: bytes) -> None:
        message = decode_from_daemon(data)
        with self._changed:
            match message:
                case Expect():
                    self._expects.append(message)
                case Verdict():
                    self._verdict = message
                case Halt():
                    self._halt = message
                case End():
                    self.ending = True
            self._changed.notify_all()
