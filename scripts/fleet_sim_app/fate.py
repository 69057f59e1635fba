"""What a version does on one device, decided by the seed: the same seed, the same fate, in any order. Pure.

Every draw is a hash of the seed, the device and what is drawn; so a fleet of another size has the same first devices,
and a device that installs a version twice finds it as it was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from scripts.fleet_sim_app.scenario import Crash, Download, Errors, Failure, Latency, Offline, Rule, Scenario

__all__ = ["Absence", "Fate", "absences_of", "draw", "fate_of", "profile_of"]


@dataclass(frozen=True, slots=True)
class Fate:
    """What applies to this device; None where nothing bad does."""

    failure: Failure | None = None
    crash: Crash | None = None
    errors: Errors | None = None
    latency: Latency | None = None
    download: Download | None = None


@dataclass(frozen=True, slots=True)
class Absence:
    """Out of reach from `from_s` to `until_s`, seconds since the candidate is rolled out."""

    from_s: float
    until_s: float


def draw(seed: int, *what: object) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    text = "\0".join(str(part) for part in (seed, *what))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def profile_of(scenario: Scenario, index: int) -> str:
    """The profile of the device with this number: dealt out by weight, so that any fleet has the shares asked for."""
    names = sorted(scenario.profiles)
    total = sum(scenario.profiles.values())
    place = (index * _stride(total)) % total
    for name in names:
        place -= scenario.profiles[name]
        if place < 0:
            return name
    return names[-1]


def _stride(total: int) -> int:
    """A step that visits every place of `total` before it comes back, and spreads neighbours."""
    for step in range(max(1, int(total * 0.618)), total):
        if _coprime(step, total):
            return step
    return 1


def _coprime(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1


def fate_of(scenario: Scenario, seed: int, device_id: str, profile: str, version: int) -> Fate:
    """What `version` does on this device."""
    rules = [rule for rule in scenario.rules if _fits(rule, profile, version)]

    def meets(what: str, share: float) -> bool:
        return draw(seed, device_id, version, what) * 100 < share

    failure = next((rule.fail for rule in rules if rule.fail is not None), None)
    crash = next((rule.crash for rule in rules if rule.crash is not None), None)
    errors = next((rule.errors for rule in rules if rule.errors is not None), None)
    latency = next((rule.latency for rule in rules if rule.latency is not None), None)
    download = next((rule.download for rule in rules if rule.download is not None), None)
    return Fate(
        failure=failure if failure and meets("fail", failure.share) else None,
        crash=crash if crash and meets("crash", crash.share) else None,
        errors=errors if errors and meets("errors", errors.share) else None,
        latency=latency if latency and meets("latency", latency.share) else None,
        download=download if download and meets("download", download.share) else None,
    )


def _fits(rule: Rule, profile: str, version: int) -> bool:
    return rule.version in (None, version) and rule.profile in (None, profile)


def absences_of(scenario: Scenario, seed: int, device_id: str, profile: str) -> list[Absence]:
    """When this device is out of reach, in order of their beginnings."""
    found = [
        Absence(part.after_s, part.after_s + part.for_s)
        for number, part in enumerate(scenario.offline)
        if _concerns(part, profile) and draw(seed, device_id, "offline", number) * 100 < part.share
    ]
    return sorted(found, key=lambda absence: absence.from_s)


def _concerns(part: Offline, profile: str) -> bool:
    return part.profile in (None, profile)
