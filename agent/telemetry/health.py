"""How versions do after their installation: counters since the last message, into the outbox.

Rules: a message is sent every telemetry interval, when a version gave way to another, and at an orderly end; only what
has something to tell is sent. What is handed to the outbox is never handed to it again, so a restart counts nothing
twice; an agent that dies loses what it counted since its last message, and the crash itself is told by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from agent.inference.ledger import Answered
from agent.telemetry.running import Crash
from shared.latency import sparse
from shared.limits import MAX_HEALTH_COUNT, MAX_HEALTH_VERSIONS_COUNT
from shared.wire.health import Health, ShadowHealth, VersionHealth

__all__ = ["HealthSource", "Shadowed"]

Key = tuple[str, int]


class Shadowed(Protocol):
    """What a candidate did beside a version that serves."""

    def __call__(self) -> Iterable[tuple[Key, ShadowHealth]]:
        """By (model, version that serves), since the last call."""
        ...


def _no_shadows() -> Iterable[tuple[Key, ShadowHealth]]:
    return ()


class HealthSource:
    """Makes health messages."""

    def __init__(
        self,
        post: Callable[[Health], None],
        answered: Callable[[], list[Answered]],
        *,
        crashes: Callable[[], list[Crash]] = list,
        shadows: Shadowed = _no_shadows,
    ) -> None:
        self._post = post
        self._answered = answered
        self._crashes = crashes
        self._shadows = shadows

    def tell(self, *, crashes: bool = False) -> None:
        """Post what is new. `crashes`: those of earlier runs too, which writes to the disk."""
        versions = list(self._versions(self._crashes() if crashes else []))
        for start in range(0, len(versions), MAX_HEALTH_VERSIONS_COUNT):
            self._post(Health(versions=versions[start : start + MAX_HEALTH_VERSIONS_COUNT]))

    def _versions(self, crashes: Iterable[Crash]) -> Iterator[VersionHealth]:
        found: dict[Key, VersionHealth] = {}
        for answered in self._answered():
            key = (answered.model, answered.version)
            if key in found:  # the same version was loaded twice in one interval
                yield found.pop(key)
            found[key] = _of(answered)
        for crash in crashes:
            key = (crash.model, crash.version)
            found[key] = msgspec.structs.replace(found.get(key, _nothing(key)), crashes=crash.count)
        for key, shadow in self._shadows():
            if key in found and found[key].shadow is not None:  # one candidate after the other in one interval
                yield found.pop(key)
            found[key] = msgspec.structs.replace(found.get(key, _nothing(key)), shadow=shadow)
        yield from found.values()


def _nothing(key: Key) -> VersionHealth:
    return VersionHealth(model=key[0], version=key[1])


def _of(answered: Answered) -> VersionHealth:
    counts = answered.counts
    requests = min(counts.requests, MAX_HEALTH_COUNT)
    errors = min(counts.errors, requests)
    return VersionHealth(
        model=answered.model,
        version=answered.version,
        requests=requests,
        errors=errors,
        over_budget=min(counts.over_budget, requests - errors),
        latency=sparse(counts.buckets),
    )
