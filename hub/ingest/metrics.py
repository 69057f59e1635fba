"""Metrics of applications, added up into rows by model, version, arm, name and period. Pure.

Rules: rows come in the order of their keys, so that two hubs never wait for each other in a circle; `last` is that of
the message that came last. A period has at most `MAX_KEYS_COUNT` different keys, so that no device fills the table with
names of its own; what is beyond it is left out and told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from shared.wire.window import Metric

__all__ = ["MAX_KEYS_COUNT", "Key", "gather_metrics", "key_of"]

MAX_KEYS_COUNT = 10_000
Key = tuple[str, int, int, str, str, str]


def key_of(metric: Metric, period_s: int) -> Key:
    """Where a metric belongs."""
    return (metric.model or "", period_s, metric.version or 0, metric.arm, metric.name, metric.kind)


def gather_metrics(
    metrics: Iterable[tuple[Metric, Any]], period_s: int, known: Collection[Key]
) -> tuple[dict[Key, dict[str, Any]], list[tuple[Metric, Any]]]:
    """Rows to add by key, ascending; and those that are left out, because the period is full.

    metrics: each with whatever says where it came from.
    """
    rows: dict[Key, dict[str, Any]] = {}
    out: list[tuple[Metric, Any]] = []
    room = MAX_KEYS_COUNT - len(known)
    for metric, source in metrics:
        key = key_of(metric, period_s)
        row = rows.get(key)
        if row is None:
            if key not in known:
                if room <= 0:
                    out.append((metric, source))
                    continue
                room -= 1
            rows[key] = _row(metric)
            continue
        row["reports"] += 1
        row["count"] += metric.count
        row["total"] += metric.total
        row["least"] = min(row["least"], metric.least)
        row["greatest"] = max(row["greatest"], metric.greatest)
        row["last"] = metric.last
    return dict(sorted(rows.items())), out


def _row(metric: Metric) -> dict[str, Any]:
    return {
        "reports": 1,
        "count": metric.count,
        "total": metric.total,
        "least": metric.least,
        "greatest": metric.greatest,
        "last": metric.last,
    }
