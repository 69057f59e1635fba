"""Who may write where: advisory locks that the kernel gives back when the process ends, however it ends.

`hold`: one daemon per state folder. `exclusive`: one writer in a folder that several processes of the agent write.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import Conflict, Unavailable

__all__ = ["exclusive", "hold"]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock while the block runs; `agent.already_running` when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                "agent.already_running",
                f"An agent runs already with the folder {path.parent.parent}.",
                hint="Stop it first, or use another --state folder.",
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an existing folder; without `wait`, `agent.busy` when another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable("agent.busy", f"{folder} is being written by another process.", retriable=True) from error
        yield
    finally:
        os.close(descriptor)
