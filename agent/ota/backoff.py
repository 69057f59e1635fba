"""How long to wait before the next attempt: exponential, capped, jittered; the randomness is handed in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff", "delay_s"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """First wait, greatest wait (seconds) and the number of attempts after which to give up."""

    base_s: float = 2.0
    cap_s: float = 300.0
    max_attempts: int = 8


def delay_s(policy: Backoff, attempt: int, random: float, at_least_s: float = 0.0) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    The upper bound doubles with each attempt up to `cap_s`; the wait lies between half of it and all of it by
    `random` in [0, 1). `at_least_s` is what the peer asked for (Retry-After); it is honoured up to `cap_s`.
    """
    bound = min(policy.cap_s, policy.base_s * 2.0 ** min(max(attempt, 1) - 1, 60))
    wait = bound * (0.5 + 0.5 * random)
    return max(wait, min(max(at_least_s, 0.0), policy.cap_s))
