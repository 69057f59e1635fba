"""Short-lived children of the daemon: what needs heavy libraries runs there and takes its memory with it.

Rules: the child is this same interpreter with `-m`; its input and output are bounded; it has a deadline and is killed
at the deadline or when the daemon stops waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from agent.ota.children import command, environment
from shared.errors import Unavailable

__all__ = ["run_module"]


async def run_module(
    module: str, arguments: Sequence[str], data: bytes, *, timeout_s: float, limit_bytes: int
) -> bytes:
    """The standard output of `python -m module arguments` given `data`; `child.failed`, `child.timeout`."""
    process = await asyncio.create_subprocess_exec(
        *command(module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
        limit=limit_bytes,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(data)
    except TimeoutError as error:
        raise Unavailable("child.timeout", f"{module} took longer than {timeout_s:g} s.", retriable=True) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if not output or len(output) > limit_bytes:
        raise Unavailable("child.failed", f"{module} ended with {process.returncode} and no answer.", retriable=True)
    return output
