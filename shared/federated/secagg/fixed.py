"""Updates as whole numbers modulo 2**32, so that masked ones add up exactly. Pure.

Rules: each entry is multiplied by the device's weight before it is masked, and the weights are added up in an entry of
their own, so the weighted mean is exact to one rounding of each entry; `steps` is so small that a sum of all devices
cannot run over; what is beyond `reach` is cut off there and counted, so that the next round can reach further; with a
`clip`, entries are rounded towards zero, because rounding must not make an update longer than the clip.

Words: one for each weight of the model, then the weight of the device, whether the update was within the clip, whether
anything was cut off, and for each metric the weight of those that measured it and the weighted value.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput
from shared.federated.secagg.masks import Words

__all__ = ["METRICS", "Scale", "Total", "pack", "unpack", "words"]

Vector = NDArray[np.float32]
METRICS = ("accuracy", "held_out_accuracy", "held_out_loss", "loss")
_METRIC_REACH = 16.0
_COUNTS = 3
_PARTS = 1024  # of a device, in the count of those within the clip
_LIMIT = 2**31 - 1
_WITHIN_REACH = 128.0  # of one device, noise included


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """reach: the largest entry. max_weight: of one device. devices: that may be in the sum.

    towards_zero: how to round.
    """

    reach: float
    max_weight: int
    devices: int
    towards_zero: bool = False

    @property
    def steps(self) -> int:
        """Steps between 0 and `reach`; error `secure.scale` when the numbers leave no room for any precision."""
        room = self.devices * self.max_weight
        if not (0 < self.reach < 1e12 and self.devices > 0 and self.max_weight > 0 and room * 128 <= _LIMIT):
            raise InvalidInput("secure.scale", "So many examples of so many devices cannot be added up in 32 bits.")
        return _LIMIT // room


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """What a sum says: the weighted mean, the weights together, how many were within the clip (in 1024ths of a device,
    because devices may add noise to it), and how many were cut off."""

    mean: Vector
    weight: int
    within: float
    cut_off: int
    metrics: dict[str, float]


def words(weights: int) -> int:
    """How many words carry an update of so many weights."""
    return weights + _COUNTS + 2 * len(METRICS)


def pack(scale: Scale, difference: Vector, weight: int, within: float, metrics: Mapping[str, float]) -> Words:
    """The words of one update, not masked yet. The weight is capped; metrics lie between 0 and 16."""
    weight = max(1, min(weight, scale.max_weight))
    exact = difference.astype(np.float64) * (scale.steps / scale.reach)
    rounded = np.trunc(exact) if scale.towards_zero else np.rint(exact)
    cut = np.clip(rounded, -scale.steps, scale.steps)
    parts = round(min(1.0, max(-1.0, within / _WITHIN_REACH)) * _WITHIN_REACH * _PARTS)
    tail = [weight, parts, int(bool((cut != rounded).any()))]
    for name in METRICS:
        value = metrics.get(name)
        there = value is not None and bool(np.isfinite(value))
        share = 0.0 if value is None or not there else min(1.0, max(0.0, value / _METRIC_REACH))
        tail += [weight if there else 0, weight * round(share * scale.steps)]
    numbers = np.concatenate([cut.astype(np.int64) * weight, np.array(tail, np.int64)])
    return (numbers & 0xFFFFFFFF).astype(np.uint32)


def unpack(scale: Scale, total: Words, weights: int, devices: int) -> Total:
    """What the sum of the words of `devices` updates says; error `secure.sum` when it cannot be one."""
    signed = total.astype(np.uint32).view(np.int32).astype(np.int64)
    if signed.size != words(weights):
        raise InvalidInput("secure.sum", "The sum does not have the length of an update.")
    weight, within, cut_off = (int(number) for number in signed[weights : weights + _COUNTS])
    if not (devices <= weight <= devices * scale.max_weight and 0 <= cut_off <= devices):
        raise InvalidInput("secure.sum", "The sum of the updates is not one of honest devices.")
    metrics: dict[str, float] = {}
    for number, name in enumerate(METRICS):
        there, value = (int(n) for n in signed[weights + _COUNTS + 2 * number :][:2])
        if 0 < there <= weight and 0 <= value <= there * scale.steps:
            metrics[name] = value / there / scale.steps * _METRIC_REACH
    mean = signed[:weights] * (scale.reach / scale.steps / weight)
    return Total(mean=mean.astype(np.float32), weight=weight, within=within / _PARTS, cut_off=cut_off, metrics=metrics)
