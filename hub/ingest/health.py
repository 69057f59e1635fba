"""What many devices said about versions, added up into rows. Pure: what was said in, rows to add out.

Rules:
- A batch gives one row per distinct (model, version, profile, cohort), however many devices it speaks for; rows come in
  the order of their keys, so that two hubs that write the same ones never wait for each other in a circle.
- Only versions that the registry knows are counted, so that no device can fill the tables with names of its own; what
  it says of others is left out and told (`unknown`).
- The period is that of the hub's clock at receipt. A device's clock may be wrong, and its counts are worth the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from shared.limits import HEALTH_PERIOD_S
from shared.wire.health import Buckets, ShadowHealth, VersionHealth

__all__ = ["Gathered", "Said", "gather", "period_of"]

_COUNTS = ("requests", "errors", "over_budget", "crashes")
_SHADOW_COUNTS = ("compared", "disagreed", "errors", "over_budget", "skipped", "crashes")
Row = dict[str, int | str]


class Said(NamedTuple):
    """What one device said about one version. `cohort`: the deployment of its assignment for that model."""

    profile: str
    cohort: str
    health: VersionHealth


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to add to those of the tables, each key once, in order. `unknown`: how often a version was not known."""

    windows: list[Row]
    shadows: list[Row]
    latencies: list[Row]
    unknown: int


def period_of(now_s: float) -> int:
    """The start of the period that a moment falls into."""
    return int(now_s // HEALTH_PERIOD_S) * HEALTH_PERIOD_S


def gather(said: Iterable[Said], known: Collection[tuple[str, int]], now_s: float) -> Gathered:
    """Add up; `known` are the (model, version) that exist."""
    sums = _Sums(period_of(now_s))
    unknown = 0
    for profile, cohort, health in said:
        if (health.model, health.version) not in known:
            unknown += 1
            continue
        sums.version(profile, cohort, health)
        shadow = health.shadow
        if shadow is None:
            continue
        if (health.model, shadow.version) in known:
            sums.shadow(profile, cohort, health, shadow)
        else:
            unknown += 1
    return Gathered(
        windows=_in_order(sums.windows),
        shadows=_in_order(sums.shadows),
        latencies=[
            {**dict(zip(_LATENCY_KEY, key, strict=True)), "count": count}
            for key, count in sorted(sums.latencies.items())
        ],
        unknown=unknown,
    )


_LATENCY_KEY = ("model", "period_s", "version", "shadow", "profile", "cohort", "bucket")
_LatencyKey = tuple[str, int, int, int, str, str, int]


class _Sums:
    def __init__(self, period_s: int) -> None:
        self.windows: dict[tuple[str | int, ...], Row] = {}
        self.shadows: dict[tuple[str | int, ...], Row] = {}
        self.latencies: dict[_LatencyKey, int] = {}
        self._period_s = period_s

    def version(self, profile: str, cohort: str, health: VersionHealth) -> None:
        key: Row = {
            "model": health.model,
            "period_s": self._period_s,
            "version": health.version,
            "profile": profile,
            "cohort": cohort,
        }
        _add(self.windows, key, {"reports": 1, **{name: getattr(health, name) for name in _COUNTS}})
        self._latency(health.model, health.version, 0, profile, cohort, health.latency)

    def shadow(self, profile: str, cohort: str, health: VersionHealth, shadow: ShadowHealth) -> None:
        key: Row = {
            "model": health.model,
            "period_s": self._period_s,
            "version": shadow.version,
            "beside": health.version,
            "profile": profile,
            "cohort": cohort,
        }
        counts = {name: getattr(shadow, name) for name in _SHADOW_COUNTS}
        _add(self.shadows, key, {"reports": 1, **counts, "stopped": int(bool(shadow.stopped))})
        self._latency(health.model, shadow.version, 1, profile, cohort, shadow.latency)

    def _latency(self, model: str, version: int, shadow: int, profile: str, cohort: str, pairs: Buckets) -> None:
        for bucket, count in pairs:
            key = (model, self._period_s, version, shadow, profile, cohort, bucket)
            self.latencies[key] = self.latencies.get(key, 0) + count


def _add(rows: dict[tuple[str | int, ...], Row], key: Row, counts: Mapping[str, int]) -> None:
    row = rows.setdefault(tuple(key.values()), {**key, **dict.fromkeys(counts, 0)})
    for name, count in counts.items():
        row[name] = int(row[name]) + count


def _in_order(rows: dict[tuple[str | int, ...], Row]) -> list[Row]:
    return [row for _, row in sorted(rows.items())]
