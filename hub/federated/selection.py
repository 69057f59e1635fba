"""Which devices are asked in a round. Pure: candidates and a seed in, chosen ids out.

Rules: only who is eligible is asked; more are asked than are needed, because some will not answer (`OVER_SELECTION`,
Bonawitz et al. 2019); those who were asked least are asked first, so that nobody's data counts for nothing; among
equals a seed decides, so that a resumed run asks the same devices; a device on quarantine is not asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

__all__ = ["Candidate", "OVER_SELECTION_PERCENT", "next_ask_s", "quarantined", "select"]

OVER_SELECTION_PERCENT = 130
QUARANTINE_REJECTIONS = 3


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A device that could be asked. rejected: replies in a row that were refused; asked, dropped: in this run."""

    device_id: str
    samples: int
    group: str = ""
    asked: int = 0
    dropped: int = 0
    rejected: int = 0


def quarantined(candidate: Candidate) -> bool:
    """Did too many of its replies in a row fail admission?"""
    return candidate.rejected >= QUARANTINE_REJECTIONS


def select(candidates: Iterable[Candidate], goal: int, seed: int, min_samples: int = 1) -> list[str]:
    """The devices to ask so that `goal` of them answer, sorted by id; fewer when there are not enough.

    Groups (for example profiles) take turns, so that a large one does not crowd out a small one.
    """
    if goal < 1:
        raise ValueError("a round needs at least one device")
    fit = [c for c in candidates if c.samples >= min_samples and not quarantined(c)]
    wanted = -(-goal * OVER_SELECTION_PERCENT // 100)
    queues: dict[str, list[Candidate]] = {}
    for candidate in sorted(fit, key=lambda c: (c.asked, _lot(seed, c.device_id))):
        queues.setdefault(candidate.group, []).append(candidate)
    order = sorted((c.asked, turn, group, c.device_id) for group, q in queues.items() for turn, c in enumerate(q))
    return sorted(device_id for *_, device_id in order[:wanted])


def next_ask_s(devices: int, goal: int, round_s: float, lot: float) -> float:
    """Pace steering: after how many seconds a device should offer itself again, so that about as many come as one
    round needs; `lot` in [0, 1) spreads them."""
    rounds = max(1.0, devices / max(1, goal))
    return round_s * rounds * (0.5 + lot)


def _lot(seed: int, device_id: str) -> bytes:
    return hashlib.sha256(f"{seed}:{device_id}".encode()).digest()
