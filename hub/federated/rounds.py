"""When a round is over, and which of its updates count. Pure: numbers in, verdicts out.

Rules: a round closes as soon as its goal is reached, or when nobody can answer any more; at the deadline it closes with
a quorum and is abandoned without; the norm of an update is compared with its peers of the same round, because what is
normal changes over a run, and an absolute bound is either useless early or cruel late.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np

from hub.federated.admission import Admitted

__all__ = ["Judgement", "RoundCounts", "judge_round", "levelled", "outliers"]

_MIN_PEERS = 3


class Judgement(StrEnum):
    """What to do with the round now."""

    WAIT = "wait"
    CLOSE = "close"
    ABANDON = "abandon"


class RoundCounts(msgspec.Struct, frozen=True, kw_only=True):
    """asked: devices that were asked. joined: that took the task. admitted, lost: of those, answered well, and not."""

    asked: int
    joined: int
    admitted: int
    lost: int


def judge_round(counts: RoundCounts, goal: int, quorum: int, elapsed_s: float, deadline_s: float) -> Judgement:
    """Whether the round goes on after `elapsed_s` seconds."""
    if not 1 <= quorum <= goal:
        raise ValueError("a quorum lies between 1 and the goal")
    if counts.admitted >= goal:
        return Judgement.CLOSE
    answered = counts.admitted + counts.lost
    over = elapsed_s >= deadline_s or (counts.joined == counts.asked and answered >= counts.joined)
    if not over:
        return Judgement.WAIT
    return Judgement.CLOSE if counts.admitted >= quorum else Judgement.ABANDON


def outliers(updates: Sequence[Admitted], norm_factor: float) -> list[str]:
    """The devices whose update is more than `norm_factor` times as long as the median of the round, sorted.

    With fewer than three updates there is no telling who is the outlier: nobody is.
    """
    if len(updates) < _MIN_PEERS:
        return []
    norms = np.array([np.linalg.norm(update.difference.astype(np.float64)) for update in updates])
    limit = norm_factor * float(np.median(norms))
    return sorted(update.device_id for update, norm in zip(updates, norms, strict=True) if norm > limit)


def levelled(updates: Sequence[Admitted], examples_factor: float) -> list[Admitted]:
    """The updates; none counts for more examples than so many times the median of the round, or 1 if that is more."""
    if not updates:
        return []
    most = max(1, round(examples_factor * float(np.median([update.examples for update in updates]))))
    return [msgspec.structs.replace(update, examples=min(update.examples, most)) for update in updates]
