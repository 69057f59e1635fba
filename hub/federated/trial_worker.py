"""The child that tries a candidate: `python -m hub.federated.trial_worker LIMITS`, a request in, an answer out.

It runs a runtime written in C++ on files that somebody uploaded, so it confines itself before it loads anything.
"""

from __future__ import annotations

import sys

import msgspec

from hub.federated.trial import TrialRequest
from hub.gates.protocol import Limits
from shared.sandbox.confine import confine
from shared.sandbox.wish import Confinement

__all__ = ["main"]

_MAX_REQUEST_BYTES = 64 * 1024
_LINGER_S = 5.0


def confinement(limits: Limits, request: TrialRequest) -> Confinement:
    """What this process may do: read the bundle and the data; its scratch folder is for the runtime's own files."""
    return Confinement(
        read=[request.bundle, *([request.dataset] if request.dataset else [])],
        write=[request.scratch],
        memory_bytes=limits.memory_bytes,
        cpu_s=limits.cpu_s,
        wall_s=limits.timeout_s + _LINGER_S,
        files=limits.files,
        user=limits.user,
    )


def main() -> int:
    """Answer one request; the exit code is 0 whenever there is an answer."""
    limits = msgspec.json.decode(sys.argv[1].encode(), type=Limits)
    request = msgspec.json.decode(sys.stdin.buffer.read(_MAX_REQUEST_BYTES), type=TrialRequest)
    shortfalls = confine(confinement(limits, request))
    from hub.federated.try_out import try_out  # only now: NumPy and the runtime live within the limits too

    answer = msgspec.structs.replace(try_out(request), shortfalls=shortfalls)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
