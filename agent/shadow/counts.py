"""What is counted of one candidate. Written by its thread and by predictions, read by the heartbeat; integers only."""

from __future__ import annotations

import threading

import msgspec

from shared.latency import bucket
from shared.wire.health import ShadowHealth

__all__ = ["ShadowCounts"]


class ShadowCounts:
    """`budget_ns`: what one prediction may take by the device's profile."""

    def __init__(self, version: int, budget_ns: int) -> None:
        self._nothing = ShadowHealth(version=version)
        self._budget_ns = budget_ns
        self._lock = threading.Lock()
        self._found = self._nothing
        self._latency: dict[int, int] = {}
        self.over = False
        """Nothing is counted any more."""

    def compared(self, ns: int, *, agreed: bool) -> None:
        """Both versions answered; the candidate took `ns` nanoseconds."""
        number = bucket(ns)
        with self._lock:
            self._latency[number] = self._latency.get(number, 0) + 1
            self._add(compared=1, disagreed=int(not agreed), over_budget=int(ns > self._budget_ns))

    def failed(self) -> None:
        """The candidate could not answer what the live version answered."""
        with self._lock:
            self._add(errors=1)

    def skipped(self) -> None:
        """The candidate was busy or had no processor time left."""
        with self._lock:
            self._add(skipped=1)

    def stopped(self, code: str, *, crashed: bool) -> None:
        """The candidate runs no more."""
        with self._lock:
            self._add(crashes=int(crashed))
            self._found = msgspec.structs.replace(self._found, stopped=code)

    def take(self) -> ShadowHealth | None:
        """What is new since the last call; None: nothing."""
        with self._lock:
            found = msgspec.structs.replace(self._found, latency=sorted(self._latency.items()))
            self._found, self._latency = self._nothing, {}
        return None if found == self._nothing else found

    def _add(self, **counts: int) -> None:
        found = self._found
        self._found = msgspec.structs.replace(
            found, **{name: getattr(found, name) + count for name, count in counts.items()}
        )
