"""Large bodies on their way to the blob store: streamed, hashed and written off the event loop, never held whole."""

from __future__ import annotations

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from hub.blobs.store import BlobWriter

__all__ = ["receive"]

_BUFFER_BYTES = 1 << 20


async def receive(request: Request, writer: BlobWriter) -> None:
    """Write the request's body to `writer`; errors `blob.too_large`, `storage.write` and those of `hub.api.edge`."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= _BUFFER_BYTES:
            await run_in_threadpool(writer.write, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(writer.write, bytes(waiting))
