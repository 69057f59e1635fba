"""Which of the devices that a run's filter chooses could take part now, and why the others could not. Pure.

Rules: this saves offers that would be declined; the device decides by what it reads of itself. So only what the hub
knows for certain is looked at here, with the codes that the device itself would give; the first one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.profiles import Profile

__all__ = ["REASONS", "Needs", "Seen", "why_not"]

REASONS: Mapping[str, str] = {
    "federated.offline": "The device was not heard of for a while.",
    "federated.no_key": "An older hub issued the certificate and kept no key; it joins after its renewal.",
    "profile.unknown": "The hub does not know the device's firmware profile.",
    "training.not_allowed": "The profile does not allow training.",
    "training.too_long": "The task takes longer than the profile allows.",
    "training.link_slow": "The link is too slow for the task.",
    "training.too_large": "The task needs more memory than the profile allows.",
    "training.model_missing": "The version to train is not the one that serves there.",
    "training.few_samples": "There are too few samples.",
}
"""Every reason, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one round asks of a device. seconds: at the most. bytes: to be sent and received."""

    version: int
    seconds: float
    memory_bytes: int
    bytes: int
    min_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the hub knows of a device. profile: None where it does not know it. version: what serves there."""

    online: bool
    has_key: bool
    profile: Profile | None
    version: int | None
    samples: int


def why_not(needs: Needs, seen: Seen) -> str:
    """The code of the first reason why the device could not take part; empty: it could."""
    for code, applies in _checks(needs, seen):
        if applies:
            return code
    return ""


def _checks(needs: Needs, seen: Seen) -> Sequence[tuple[str, bool]]:
    profile = seen.profile
    known = [("federated.offline", not seen.online), ("federated.no_key", not seen.has_key)]
    if profile is None:
        return [*known, ("profile.unknown", True)]
    rules = profile.training
    return [
        *known,
        ("training.not_allowed", not rules.allowed),
        ("training.too_long", needs.seconds > rules.max_duration_s),
        ("training.link_slow", needs.seconds + needs.bytes / profile.link.bytes_per_s > rules.max_duration_s),
        ("training.too_large", needs.memory_bytes > rules.max_memory_bytes),
        ("training.model_missing", seen.version != needs.version),
        ("training.few_samples", seen.samples < max(needs.min_samples, rules.min_samples)),
    ]
