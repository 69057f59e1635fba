"""How the daemon starts its child processes: the same interpreter and packages, nothing of the caller's environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

import agent

__all__ = ["command", "end", "environment"]

_PIPE_S = 1.0

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "FAKETIME", "LD_PRELOAD")


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of ours, without the working directory on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The child's environment: few variables, our packages, and one thread for numeric libraries."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    root = str(Path(agent.__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **(extra or {})}


async def end(process: Process) -> None:
    """Kill a child and wait until it is gone, with its pipes; a cancellation waits for that too."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    gone = asyncio.ensure_future(_gone(process))
    try:
        await asyncio.shield(gone)
    except asyncio.CancelledError:
        await gone
        raise


async def _gone(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
    with contextlib.suppress(TimeoutError):  # somebody else may hold the other end
        async with asyncio.timeout(_PIPE_S):
            while process.stdout is not None and await process.stdout.read(1 << 16):
                pass
