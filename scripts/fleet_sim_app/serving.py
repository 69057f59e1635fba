"""What applications on a simulated device would have asked of the version that serves, counted as the agent counts.

Rules: integers only; what is handed out is never handed out again; a version that gives way has been counted up to
that moment. `random` is the device's own, so that a run can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from scripts.fleet_sim_app.fate import Fate
from shared.latency import BUCKETS_COUNT, bucket, percentile_us
from shared.wire.health import VersionHealth

__all__ = ["Counted", "Load", "Serving"]

_GOOD_SHARE = 0.2
"""The median latency of a version that is not slow, as a share of the budget."""
_MOST_AT_ONCE = 2000


@dataclass(slots=True)
class Counted:
    """Requests of some stretch of time; `buckets` of those that were answered, sparse."""

    requests: int = 0
    errors: int = 0
    over_budget: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, other: Counted) -> None:
        """Take what the other counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.over_budget += other.over_budget
        for number, count in other.buckets.items():
            self.buckets[number] = self.buckets.get(number, 0) + count

    def percentile_us(self, percent: int) -> int:
        """0 when nothing was answered."""
        return percentile_us(self.buckets.items(), percent)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests per second and the profile's latency budget."""

    requests_per_s: float
    budget_ms: float


class Serving:
    """One model's version that serves, and its counters: since the last heartbeat, since the last health message,
    since it became active."""

    def __init__(self, model: str, load: Load, random: Random) -> None:
        self._model = model
        self._load = load
        self._random = random
        self._fate = Fate()
        self._since_s = 0.0
        self._rest = 0.0
        self._beat = Counted()
        self._health: dict[int, Counted] = {}
        self._crashes: dict[int, int] = {}
        self.version: int | None = None
        self.active = Counted()

    def swap(self, version: int | None, fate: Fate, now_s: float) -> None:
        """Another version serves from now on, or none."""
        self.count(now_s)
        self.version, self._fate = version, fate
        self._since_s, self.active = now_s, Counted()

    def count(self, now_s: float) -> None:
        """Count the requests up to now."""
        if self.version is None:
            return
        wanted = self._rest + (now_s - self._since_s) * self._load.requests_per_s
        number = min(int(wanted), _MOST_AT_ONCE)
        self._rest, self._since_s = min(wanted - number, 1.0), now_s
        if not number:
            return
        seen = self._ask(number)
        self._beat.add(seen)
        self.active.add(seen)
        self._health.setdefault(self.version, Counted()).add(seen)

    def crashed(self) -> None:
        """The agent ended abnormally while this version served."""
        if self.version is not None:
            self._crashes[self.version] = self._crashes.get(self.version, 0) + 1

    def take_beat(self) -> Counted:
        """Since the last call, for the heartbeat."""
        taken, self._beat = self._beat, Counted()
        return taken

    def take_health(self) -> Sequence[VersionHealth]:
        """What every version that served has to tell since the last call."""
        health, self._health = self._health, {}
        crashes, self._crashes = self._crashes, {}
        return [
            self._told(version, health.get(version, Counted()), crashes.get(version, 0))
            for version in sorted(health.keys() | crashes.keys())
        ]

    def _told(self, version: int, seen: Counted, crashes: int) -> VersionHealth:
        return VersionHealth(
            model=self._model,
            version=version,
            requests=seen.requests,
            errors=seen.errors,
            over_budget=seen.over_budget,
            crashes=crashes,
            latency=sorted(seen.buckets.items()),
        )

    def _ask(self, number: int) -> Counted:
        seen, random = Counted(requests=number), self._random
        failing = self._fate.errors.percent / 100 if self._fate.errors else 0.0
        latency = self._fate.latency
        median_ms = latency.median_ms if latency else self._load.budget_ms * _GOOD_SHARE
        spread = latency.spread if latency else 0.2
        budget_ns = int(self._load.budget_ms * 1e6)
        for _ in range(number):
            if failing and random.random() < failing:
                seen.errors += 1
                continue
            took_ns = int(median_ms * 1e6 * math.exp(random.gauss(0.0, spread)))
            place = min(bucket(took_ns), BUCKETS_COUNT - 1)
            seen.buckets[place] = seen.buckets.get(place, 0) + 1
            seen.over_budget += took_ns > budget_ns
        return seen
