"""The delta's worker process: `python -m hub.deltas.worker LIMITS`, a request on stdin, an answer on stdout.

It spends minutes of processor time and reads files that somebody uploaded, so it confines itself first
(`shared.sandbox`), runs at a low priority, and leaves one file in its scratch folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from hub.deltas.protocol import DELTA_FILE, Limits, Request, Response
from shared import limits as bounds
from shared.errors import ErrorBody, SkerryError
from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement

__all__ = ["main"]

_MAX_REQUEST_BYTES = 64 * 1024
_LINGER_S = 5.0
_NICENESS = 10


def confinement(limits: Limits, request: Request) -> Confinement:
    """What this process may do: read both bundles, and write in the scratch folder."""
    return Confinement(
        read=[request.old, request.new],
        write=[request.scratch],
        memory_bytes=limits.memory_bytes,
        cpu_s=limits.cpu_s,
        wall_s=limits.timeout_s + _LINGER_S,
        file_bytes=bounds.MAX_BUNDLE_BYTES,
        user=limits.user,
    )


def _make(request: Request) -> Response:
    from shared.delta.encode import encode_delta  # only now: Zstandard lives within the limits too

    try:
        with (Path(request.scratch) / DELTA_FILE).open("w+b") as out:
            pair = encode_delta(Path(request.old), Path(request.new), out)
            size = out.seek(0, os.SEEK_END)
    except SkerryError as error:
        return Response(problem=error.body())
    except (MemoryError, OSError) as error:
        return Response(problem=ErrorBody(code="delta.worker_failed", message=f"{type(error).__name__}: {error}"[:300]))
    return Response(bytes=size, from_sha256=pair.from_sha256, to_sha256=pair.to_sha256)


def main() -> int:
    """Answer one request; the exit code is 0 whenever there is an answer."""
    limits = msgspec.json.decode(sys.argv[1].encode(), type=Limits)
    request = msgspec.json.decode(sys.stdin.buffer.read(_MAX_REQUEST_BYTES), type=Request)
    os.nice(_NICENESS)
    shortfalls = confine(confinement(limits, request))
    sys.stdout.buffer.write(msgspec.json.encode(msgspec.structs.replace(_make(request), shortfalls=shortfalls)))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
