"""The gate's worker process: `python -m hub.gates.worker LIMITS`, a request on stdin, an answer on stdout.

It runs a runtime written in C++ on a file that somebody uploaded, so it bounds itself before it loads anything: address
space, processor time, open files, file sizes, no core dump. The hub adds a wall clock and reads a bounded answer.
"""

from __future__ import annotations

import resource
import sys

import msgspec

from hub.gates.protocol import Limits, Request
from shared import limits as bounds

__all__ = ["main"]

_MAX_REQUEST_BYTES = 64 * 1024


def bound(limits: Limits) -> None:
    """Set the limits of this process; none of them can be raised again."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_FSIZE, bounds.MAX_BUNDLE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def main() -> int:
    """Answer one request; the exit code is 0 whenever there is an answer."""
    bound(msgspec.json.decode(sys.argv[1].encode(), type=Limits))
    request = msgspec.json.decode(sys.stdin.buffer.read(_MAX_REQUEST_BYTES), type=Request)
    from hub.gates.evaluate import evaluate  # only now: NumPy and the runtime live within the limits too

    sys.stdout.buffer.write(msgspec.json.encode(evaluate(request)))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
