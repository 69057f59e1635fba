"""How the new weights do on the devices, beside those that the run began with. Pure.

Each device measures both on its held-out share, so that the difference is not one between devices. What is told are
sums over many devices: for all of them, for each profile and for each group; the worst of these is named, because a
mean hides those who lose. A slice of one device says how that device does, which is as much as the hub knows anyway
from the updates of a run without secure aggregation; with it, there are only sums over all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

__all__ = ["DeviceEvaluation", "Evaluation", "Slice", "dropped", "summarise"]


class DeviceEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What one device measured on `examples` held-out samples: shares of right answers and mean losses."""

    device_id: str
    examples: int
    accuracy: float
    loss: float
    base_accuracy: float
    base_loss: float


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The devices of one profile or group, or all (`name` empty); means are weighted by examples."""

    name: str
    devices: int
    examples: int
    accuracy: float
    loss: float
    base_accuracy: float
    base_loss: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What the devices measured. asked: devices that were asked; `whole.devices` of them answered."""

    asked: int
    whole: Slice
    profiles: list[Slice] = []
    groups: list[Slice] = []

    @property
    def worst(self) -> Slice:
        """The profile or group with the lowest accuracy; all, where there is neither."""
        return min([*self.profiles, *self.groups] or [self.whole], key=lambda part: (part.accuracy, part.name))


def summarise(
    asked: int,
    devices: Sequence[DeviceEvaluation],
    profiles: Mapping[str, str] | None = None,
    groups: Mapping[str, Iterable[str]] | None = None,
) -> Evaluation | None:
    """The evaluation; None when nobody answered. profiles: by device; groups: the devices of each."""
    known = {device.device_id: device for device in devices if device.examples > 0}
    if not known:
        return None
    by_profile: dict[str, list[DeviceEvaluation]] = {}
    for device_id, profile in (profiles or {}).items():
        if device_id in known and profile:
            by_profile.setdefault(profile, []).append(known[device_id])
    by_group = {name: [known[d] for d in members if d in known] for name, members in (groups or {}).items()}
    return Evaluation(
        asked=asked,
        whole=_slice("", list(known.values())),
        profiles=[_slice(name, by_profile[name]) for name in sorted(by_profile)],
        groups=[_slice(name, by_group[name]) for name in sorted(by_group) if by_group[name]],
    )


def dropped(evaluation: Evaluation) -> float:
    """By how much the accuracy is lower than the base version's on the same samples (negative: it is higher)."""
    return evaluation.whole.base_accuracy - evaluation.whole.accuracy


def _slice(name: str, devices: Sequence[DeviceEvaluation]) -> Slice:
    total = sum(device.examples for device in devices)

    def mean(field: str) -> float:
        return float(sum(getattr(device, field) * device.examples for device in devices) / total)

    return Slice(
        name=name,
        devices=len(devices),
        examples=total,
        accuracy=mean("accuracy"),
        loss=mean("loss"),
        base_accuracy=mean("base_accuracy"),
        base_loss=mean("base_loss"),
    )
