"""How a run protects devices: what each is told, what the hub adds, and what has been spent. Pure but for its seed.

Rules: with differential privacy every update counts the same (a device's number of examples is its secret too), is no
longer than the clip, and meets noise before anything of it leaves the side that adds it; a release that the budget does
not pay for is not made. In mode `server` a release is a round that counts, paid for together with its weights; in mode
`client` it is a task that goes out, paid for before, because the hub sees the answers whether the round counts or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.federated.accountant import affordable, epsilon_at
from hub.federated.admission import Admitted
from hub.federated.checkpoint import PrivacyState
from hub.federated.definition import RunDefinition
from hub.federated.report import METRICS, PrivacySpent
from shared.errors import Conflict
from shared.federated.clipping import NoiseSplit, clip, next_clip, split
from shared.federated.noise import gaussian
from shared.federated.secagg.fixed import Scale, Total

__all__ = ["WITHIN", "Mechanism"]

Vector = NDArray[np.float32]
Seed = Callable[[], bytes]
WITHIN = "within"
"""The metric by which a device says whether its update was within the clip: ±1/2, and noise."""

_TAILS = 8.0
_LIMIT = 2**31 - 1
_MIN_STEPS = 1024
_MIN_REACH = 1e-6


class Mechanism:
    """The privacy of one run. seed: 32 bytes that nobody can foresee, anew for each call."""

    def __init__(self, definition: RunDefinition, state: PrivacyState, seed: Seed) -> None:
        self._wanted = definition.privacy
        self._definition = definition
        self._seed = seed
        self.state = state if state.clip else msgspec.structs.replace(state, clip=definition.privacy.clip)

    @property
    def on(self) -> bool:
        """Whether anybody adds noise."""
        return self._wanted.mode != "none"

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that an answer may hold: devices that add noise say nothing else without it."""
        if self._wanted.mode == "client":
            return frozenset({WITHIN}) if self._wanted.adaptive else frozenset()
        return METRICS

    @property
    def max_examples(self) -> int:
        """How much one update may weigh."""
        return 1 if self.on else self._definition.admission.max_examples

    # --- the budget ---------------------------------------------------------------------------------------------------
    def affordable(self) -> bool:
        """Whether one more release can be paid."""
        wanted = self._wanted
        if not self.on:
            return True
        return self.state.releases < affordable(wanted.epsilon, wanted.delta, wanted.noise_multiplier)

    def pay(self) -> None:
        """One release more."""
        self.state = msgspec.structs.replace(self.state, releases=self.state.releases + 1)

    def out_of_budget(self) -> Conflict:
        """Why no further round is made."""
        wanted = self._wanted
        return Conflict(
            "federated.privacy_spent",
            f"The privacy budget (epsilon {wanted.epsilon:g}, delta {wanted.delta:g}) does not pay for another round.",
            hint="The weights of the last complete round stand. More noise_multiplier pays for more rounds.",
        )

    def spent(self) -> PrivacySpent | None:
        """What has been spent; None without differential privacy."""
        wanted = self._wanted
        if not self.on:
            return None
        return PrivacySpent(
            mode=wanted.mode,
            epsilon=epsilon_at(wanted.delta, wanted.noise_multiplier, self.state.releases),
            delta=wanted.delta,
            noise_multiplier=wanted.noise_multiplier,
            secure_aggregation=wanted.secure_aggregation,
            releases=self.state.releases,
            clip=self.state.clip,
        )

    # --- orders -------------------------------------------------------------------------------------------------------
    def order(self, least: int = 1) -> dict[str, float]:
        """What devices are told to do themselves; least: how many of them a sum is of, which share the noise."""
        wanted, config = self._wanted, dict[str, float]()
        if wanted.mode == "client":
            noise = self._noise(least)
            config = {"clip": self.state.clip, "noise_multiplier": noise.vector / math.sqrt(least)}
            if wanted.adaptive:
                config["count_noise"] = noise.count / math.sqrt(least)
        elif wanted.secure_aggregation:
            config = {"clip": self.state.clip if self.on else self._definition.admission.max_norm}
        return config

    def scale(self, devices: int, samples: int, least: int) -> Scale:
        """How updates are written as whole numbers, in a sum of `least` to `devices`, each with at most `samples`."""
        wanted = self._wanted
        reach, weight = self.state.reach, min(self.max_examples, max(1, samples))
        if self.on:
            noise = self.order(least)["noise_multiplier"] if wanted.mode == "client" else 0.0
            reach = self.state.clip * (1 + _TAILS * noise)
        room = max(1, _LIMIT // (devices * _MIN_STEPS))
        return Scale(reach=reach, max_weight=min(weight, room), devices=devices, towards_zero=self.on)

    # --- releases -----------------------------------------------------------------------------------------------------
    def released(self, updates: Sequence[Admitted]) -> list[Admitted]:
        """What the strategy gets to see of single updates, and the next clip."""
        wanted = self._wanted
        if not self.on:
            return list(updates)
        if wanted.mode == "client":
            most = 0.5 + _TAILS * self._noise(1).count
            votes = [min(most, max(-most, update.metrics.get(WITHIN, 0.0))) for update in updates]
            self._follow(sum(votes), len(updates))
            return list(updates)
        clipped = [clip(update.difference, self.state.clip) for update in updates]
        total = np.sum([difference.astype(np.float64) for difference, _ in clipped], axis=0)
        return [self._noisy(total, sum(0.5 if within else -0.5 for _, within in clipped), len(updates))]

    def summed(self, total: Total, devices: int) -> list[Admitted]:
        """What the strategy gets to see of a sum of so many devices, and the next clip or reach."""
        if self._wanted.mode == "server":
            return [self._noisy(total.mean.astype(np.float64) * total.weight, total.within, devices)]
        if self._wanted.mode == "client":
            self._follow(total.within, devices)
        else:
            self._reach(total)
        return [Admitted(device_id="", difference=total.mean, examples=1, metrics={})]

    def _noise(self, devices: int) -> NoiseSplit:
        multiplier = self._wanted.noise_multiplier
        return split(multiplier, devices) if self._wanted.adaptive else NoiseSplit(vector=multiplier, count=0.0)

    def _noisy(self, total: NDArray[np.float64], within: float, devices: int) -> Admitted:
        """The mean of the updates whose sum this is, with the hub's noise."""
        noise = self._noise(devices)
        total = total + gaussian(self._seed(), total.size, noise.vector * self.state.clip)
        if self._wanted.adaptive:
            self._follow(within + float(gaussian(self._seed(), 1, noise.count)[0]), devices)
        mean = (total / devices).astype(np.float32)
        return Admitted(device_id="", difference=mean, examples=1, metrics={})

    def _follow(self, within: float, devices: int) -> None:
        """The next clip, from how many were within this one: the sum of their ±1/2."""
        if self._wanted.adaptive:
            self.state = msgspec.structs.replace(self.state, clip=next_clip(self.state.clip, within / devices + 0.5))

    def _reach(self, total: Total) -> None:
        """Further when an update was cut off; less far when nothing was near, for finer steps."""
        reach, peak = self.state.reach, float(np.abs(total.mean).max(initial=0.0))
        if total.cut_off:
            reach = min(4 * reach, self._definition.admission.max_norm)
        elif peak < reach / 64:
            reach = max(reach / 2, _MIN_REACH)
        self.state = msgspec.structs.replace(self.state, reach=reach)
