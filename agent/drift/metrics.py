"""Counters and gauges of applications, by name; told to the hub every interval, and shown as totals on this device.

Rules: names, values and their number are bounded, so no application can fill memory or messages; what was refused is
refused whole (`metrics.name`, `metrics.value`, `metrics.too_many`).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shared import limits
from shared.errors import InvalidInput, TooLarge
from shared.wire.window import ARM_PATTERN, METRIC_PATTERN, Metric, Metrics

__all__ = ["Given", "MetricKey", "NamedMetrics", "Sum"]

_NAME, _ARM = re.compile(METRIC_PATTERN), re.compile(ARM_PATTERN)
Kind = Literal["counter", "gauge"]


class MetricKey(NamedTuple):
    """What one sum is of."""

    name: str
    kind: Kind
    model: str | None
    version: int | None
    arm: str


class Given(NamedTuple):
    """One value of an application."""

    key: MetricKey
    value: float


@dataclass(slots=True)
class Sum:
    """The values of one key."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    greatest: float = -math.inf
    last: float = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        most = limits.MAX_METRIC_VALUE
        self.count = min(self.count + 1, limits.MAX_WINDOW_ROWS_COUNT)
        self.total = min(max(self.total + value, -most), most)
        self.least, self.greatest, self.last = min(self.least, value), max(self.greatest, value), value


class NamedMetrics:
    """All that applications push. Every method may be called from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[MetricKey, Sum] = {}
        self._totals: dict[MetricKey, Sum] = {}
        self._started_s: float | None = None

    def push(self, given: Sequence[Given], now_s: float) -> None:
        """Count some values, all or none; errors `metrics.name`, `metrics.value`, `metrics.too_many`."""
        for item in given:
            _check(item)
        with self._lock:
            fresh = {item.key for item in given} - self._sums.keys()
            if len(self._sums) + len(fresh) > limits.MAX_METRICS_COUNT:
                raise TooLarge(
                    "metrics.too_many",
                    f"More than {limits.MAX_METRICS_COUNT} metrics in one interval.",
                    hint="Use fewer names; a name is a kind of thing, not one thing.",
                )
            if self._started_s is None:
                self._started_s = now_s
            for key, value in given:
                self._sums.setdefault(key, Sum()).add(value)
                total = self._totals.pop(key, None) or Sum()
                total.add(value)
                self._totals[key] = total
            while len(self._totals) > 4 * limits.MAX_METRICS_COUNT:
                del self._totals[next(iter(self._totals))]

    def take(self, now_s: float) -> Metrics | None:
        """What was pushed since the last `take`, as a message; None when nothing was."""
        with self._lock:
            sums, self._sums = self._sums, {}
            started_s, self._started_s = self._started_s, None
        if not sums or started_s is None:
            return None
        found = [_told(key, part) for key, part in sorted(sums.items(), key=lambda item: str(item[0]))]
        return Metrics(started_s=max(0.0, started_s), ended_s=max(0.0, started_s, now_s), metrics=found)

    def totals(self) -> dict[MetricKey, Sum]:
        """Everything since the agent started."""
        with self._lock:
            return dict(self._totals)


def _check(item: Given) -> None:
    key, value = item
    if not _NAME.match(key.name) or not _ARM.match(key.arm):
        raise InvalidInput(
            "metrics.name",
            f"{key.name[:64]!r} (arm {key.arm[:32]!r}) is not the name of a metric.",
            hint="A name has 1 to 63 of a-z 0-9 _ and starts with a letter; an arm has up to 32 of a-z 0-9 _ -.",
        )
    if not math.isfinite(value) or abs(value) > limits.MAX_METRIC_VALUE or (key.kind == "counter" and value < 0):
        raise InvalidInput("metrics.value", f"{value!r:.40} is not a value of the {key.kind} {key.name}.")


def _told(key: MetricKey, part: Sum) -> Metric:
    gauge = key.kind == "gauge"
    return Metric(
        name=key.name,
        kind=key.kind,
        model=key.model,
        version=key.version,
        arm=key.arm,
        count=part.count,
        total=part.total,
        least=part.least if gauge else 0.0,
        greatest=part.greatest if gauge else 0.0,
        last=part.last if gauge else 0.0,
    )
