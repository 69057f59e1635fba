"""The gate's worker process: `python -m hub.gates.worker LIMITS`, a request on stdin, an answer on stdout.

It runs a runtime written in C++ on a file that somebody uploaded, so it confines itself before it loads anything
(`shared.sandbox`). The hub adds a wall clock and reads a bounded answer.
"""

from __future__ import annotations

import sys

import msgspec

from hub.gates.protocol import Limits, Request
from shared import limits as bounds
from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement

__all__ = ["main"]

_MAX_REQUEST_BYTES = 64 * 1024
_LINGER_S = 5.0


def confinement(limits: Limits, request: Request) -> Confinement:
    """What this process may do: read the data and the bundles, and write in the scratch folder."""
    bundles = [bundle.path for bundle in (request.candidate, request.production) if bundle is not None]
    return Confinement(
        read=[request.dataset, *bundles],
        write=[request.scratch],
        memory_bytes=limits.memory_bytes,
        cpu_s=limits.cpu_s,
        wall_s=limits.timeout_s + _LINGER_S,
        files=limits.files,
        file_bytes=bounds.MAX_BUNDLE_BYTES,
        user=limits.user,
    )


def main() -> int:
    """Answer one request; the exit code is 0 whenever there is an answer."""
    limits = msgspec.json.decode(sys.argv[1].encode(), type=Limits)
    request = msgspec.json.decode(sys.stdin.buffer.read(_MAX_REQUEST_BYTES), type=Request)
    shortfalls = confine(confinement(limits, request))
    from hub.gates.evaluate import evaluate  # only now: NumPy and the runtime live within the limits too

    sys.stdout.buffer.write(msgspec.json.encode(msgspec.structs.replace(evaluate(request), shortfalls=shortfalls)))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
