"""Whether a version on probation goes on, is committed or is rolled back: values in, verdict out.

Rules: a version is judged by what happened since it became active. While it bakes, error rate and latency count only
from a minimum of requests, so that one unlucky request does not decide; a prediction that does not end at all decides
alone. At the end of the bake time the error rate
counts over however few requests there were. The bake time is counted in seconds during which the agent ran
(monotonic), so a wrong or jumping clock cannot shorten it. Restarts in a row without progress roll back, and so do a
few crashes of the agent in the whole bake time, however far apart: a version that kills its agent every ten minutes
is not good because it runs for nine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Limits", "Observed", "Verdict", "VerdictKind", "hang_s", "judge"]

_HANG_FACTOR = 100
_HANG_MOST_S = 60.0


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
    hang_s: float = _HANG_MOST_S


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen since activation. `errors` are failures of the model, not of the caller's input.

    restarts: in a row. crashes: ends of the agent's process that were neither orderly nor the machine's.
    under_way_s: how long the present prediction has been running.
    """

    requests: int
    errors: int
    latency_p99_us: int
    restarts: int
    crashes: int = 0
    under_way_s: float = 0.0


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


def hang_s(latency_p99_us: int, least_s: float) -> float:
    """After how many seconds a prediction will not end: a hundred times what the profile allows, within bounds."""
    return min(max(_HANG_FACTOR * latency_p99_us / 1e6, least_s), max(_HANG_MOST_S, least_s))


def judge(seen: Observed, elapsed_s: float, limits: Limits) -> Verdict:
    """The verdict after `elapsed_s` seconds of the bake time; codes `probation.*`."""
    if seen.restarts > limits.max_restarts:
        return _roll_back("probation.crash_loop", f"The agent restarted {seen.restarts} times in a row.")
    if seen.crashes > limits.max_crashes:
        return _roll_back("probation.crash_loop", f"The agent crashed {seen.crashes} times while it watched.")
    if seen.under_way_s > limits.hang_s:
        return _roll_back("probation.hung", f"A prediction did not end within {seen.under_way_s:.0f} s.")
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
