"""Blocking work beside the event loop, which serves predictions meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["in_thread", "within"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns. When the caller is cancelled, `work` is waited for first: nothing writes behind its back."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def within(timeout_s: float, work: Callable[[], T], drop: Callable[[T], object]) -> T:
    """What `work` returns, or `TimeoutError`. For work that may hang for ever: its thread is its own and is given up.

    `drop` gets what comes too late, or after the caller was cancelled.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            if error is None:
                drop(value)  # type: ignore[arg-type]
        elif error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name="may-hang", daemon=True).start()
    async with asyncio.timeout(timeout_s):
        return await result
