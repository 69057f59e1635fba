"""What the hub hears of a round, and of a step of the model in a buffered run. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hub.federated.admission import Admitted

__all__ = ["METRICS", "GroupTraffic", "PrivacySpent", "RoundReport", "means"]

METRICS = frozenset({"loss", "accuracy", "held_out_loss", "held_out_accuracy"})
"""The metrics that a reply may hold: of training, and on the device's held-out share before it."""


class PrivacySpent(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has told about single devices at the most: (epsilon, delta) for all that one of them ever answers.

    mode: who adds the noise, `server` or `client`. releases: how often the noise was added to something that was told.
    clip: the bound of the next round's updates.
    """

    mode: str
    epsilon: float
    delta: float
    noise_multiplier: float = 0.0
    secure_aggregation: bool = False
    releases: int = 0
    clip: float = 0.0


class GroupTraffic(msgspec.Struct, kw_only=True):
    """What the devices of one group (a firmware profile) have moved since the run began."""

    group: str
    devices: int = 0
    bytes_down: int = 0
    bytes_up: int = 0


class RoundReport(msgspec.Struct, frozen=True, kw_only=True):
    """A round. joined: devices that took the task. rejected: device and code. dropped: joined or asked in vain.

    metrics: means over the admitted, weighted by their examples. abandoned: the code why the round did not count.
    privacy: what the run has spent with this round. traffic: of the whole run so far, not of the round.
    """

    round_no: int
    asked: list[str]
    joined: list[str]
    admitted: list[str]
    rejected: dict[str, str]
    dropped: list[str]
    metrics: dict[str, float]
    bytes_down: int
    bytes_up: int
    seconds: float
    abandoned: str = ""
    privacy: PrivacySpent | None = None
    traffic: list[GroupTraffic] = []


def means(updates: Iterable[Admitted]) -> dict[str, float]:
    """The means of what the updates measured, weighted by examples; a metric counts where it was measured."""
    sums: dict[str, tuple[float, int]] = {}
    for update in updates:
        for key, value in update.metrics.items():
            if key not in METRICS:
                continue
            total, weight = sums.get(key, (0.0, 0))
            sums[key] = (total + value * update.examples, weight + update.examples)
    return {key: total / weight for key, (total, weight) in sorted(sums.items())}
