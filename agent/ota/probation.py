"""Whether a version on probation goes on, is committed or is rolled back: values in, verdict out.

Rules: a version is judged by what happened since it became active. While it bakes, error rate and latency count only
from a minimum of requests, so that one unlucky request does not decide; at the end of the bake time the error rate
counts over however few requests there were. The bake time is counted in seconds during which the agent ran
(monotonic), so a wrong or jumping clock cannot shorten it. Restarts in a row without progress roll back, and so do a
few crashes of the agent in the whole bake time, however far apart: a version that kills its agent every ten minutes
is not good because it runs for nine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Limits", "Observed", "Verdict", "VerdictKind", "judge"]


class VerdictKind(StrEnum):
    """What to do."""

    CONTINUE = "continue"
    COMMIT = "commit"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a version must keep to. Percent and counts are integers; nothing is rounded."""

    bake_s: float
    latency_p99_us: int
    min_requests: int = 20
    max_error_percent: int = 5
    max_restarts: int = 2
    max_crashes: int = 3


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen since activation. `errors` are failures of the model, not of the caller's input.

    restarts: in a row. crashes: ends of the agent's process that were neither orderly nor the machine's.
    """

    requests: int
    errors: int
    latency_p99_us: int
    restarts: int
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why when it is a rollback."""

    kind: VerdictKind
    code: str = ""
    reason: str = ""


_CONTINUE = Verdict(VerdictKind.CONTINUE)
_COMMIT = Verdict(VerdictKind.COMMIT)


def _roll_back(code: str, reason: str) -> Verdict:
    return Verdict(VerdictKind.ROLL_BACK, code, reason)


def judge(seen: Observed, elapsed_s: float, limits: Limits) -> Verdict:
    """The verdict after `elapsed_s` seconds of the bake time; codes `probation.*`."""
    if seen.restarts > limits.max_restarts:
        return _roll_back("probation.crash_loop", f"The agent restarted {seen.restarts} times in a row.")
    if seen.crashes > limits.max_crashes:
        return _roll_back("probation.crash_loop", f"The agent crashed {seen.crashes} times while it watched.")
    baked = elapsed_s >= limits.bake_s
    enough = seen.requests >= limits.min_requests
    if (enough or baked) and seen.errors * 100 > seen.requests * limits.max_error_percent:
        return _roll_back(
            "probation.errors",
            f"{seen.errors} of {seen.requests} requests failed; at most {limits.max_error_percent} % may.",
        )
    if enough and seen.latency_p99_us > limits.latency_p99_us:
        return _roll_back(
            "probation.too_slow",
            f"p99 latency is {seen.latency_p99_us} us; the profile allows {limits.latency_p99_us} us.",
        )
    return _COMMIT if baked else _CONTINUE
