"""What a decision about one model's training goes by, as values. Pure; `hub.store.trigger_facts` reads them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["Alarm", "Estimate", "Facts", "next_base"]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is open or was seen. signal: of its rule, empty when there is no such rule any more.

    faulty, judged: devices with broken inputs of their own, of so many; 0 where the alert is not about devices.
    """

    alert_id: int
    version: int
    rule: str
    signal: str
    severity: str
    level: str
    faulty: int = 0
    judged: int = 0


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The newest verdict on the version that serves. promised 0: its accuracy cannot be estimated."""

    version: int
    period_s: int
    rows: int
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    promised: float = 0.0
    worse: bool = False

    @property
    def drop(self) -> float:
        """Points of a hundred below what was promised."""
        return 100.0 * (self.promised - self.value) if self.promised else 0.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one model at one moment.

    now_s: the wall clock. settled: it has been steady for some time. engine_s: seconds during which a hub evaluated
    triggers. rested_s: engine time since the last run began; None: there was none. revision: grows with each run.
    reporting: versions that devices still tell of. samples, base_samples: seen by the fleet now, and at the last run.
    active_run: one that has not ended; waiting_version: passed its gate, is newer than any approved, lacks signatures.
    used: keys that have fired. week_runs, link_bytes, cost: of the last 7 and 30 days.
    """

    model: str
    now_s: int
    settled: bool
    engine_s: int
    rested_s: int | None
    revision: int
    reporting: frozenset[int]
    estimate: Estimate | None
    alarms: tuple[Alarm, ...]
    samples: int
    base_samples: int
    active_run: str
    waiting_version: int | None
    used: frozenset[str]
    week_runs: int
    link_bytes: Mapping[str, int]
    cost: float


def next_base(samples: int, base: int) -> int:
    """The samples that new ones are counted from: fewer are seen when devices leave or erase what they have."""
    return min(samples, base)
