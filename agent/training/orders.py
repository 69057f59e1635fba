"""What the hub orders of a device and what that answers, with the bounds of every value of an order. Pure.

Rules: a value that is unknown, of another type, no number or out of bounds refuses the order (`training.order`) and
names it: nothing is guessed, because a device that understood half of an order would train something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from shared.errors import InvalidInput
from shared.federated.codec import Scheme
from shared.federated.vector import Vector

__all__ = ["Answer", "Evaluation", "Order", "Training", "check_weights", "parse_evaluation", "parse_training"]

T = TypeVar("T")
Round = Annotated[int, Meta(ge=0, le=2**53)]
HeldOut = Annotated[float, Meta(ge=0, le=0.5)]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub asks: train on (or evaluate) `weights` by `config`. Good until `expires_s` (seconds since 1970).

    kind `query`: a question of secure aggregation, in `payload`, without weights. payload: beside a task to train,
    what secure aggregation needs (`agent.training.protection`).
    """

    kind: str
    weights: Vector
    config: dict[str, int | float | str]
    expires_s: float
    payload: bytes = b""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the device answers: an encoded update (empty for an evaluation), how many examples it stands for."""

    update: bytes
    examples: int
    metrics: dict[str, float] = {}


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Train. The names are those of a run's definition; personal: also keep a head of this device's own.

    clip: the norm that the update may have; 0: any. noise_multiplier: of the clip, the deviation of the noise that the
    device adds to it; count_noise: the same for its word on whether the update was within the clip.
    """

    round: Round
    epochs: Annotated[int, Meta(ge=1, le=100)]
    learning_rate: Annotated[float, Meta(gt=0, le=10)]
    proximal_mu: Annotated[float, Meta(ge=0, le=10)] = 0.0
    scheme: Scheme = Scheme.INT8
    keep: Annotated[float, Meta(gt=0, le=1)] = 0.1
    held_out: HeldOut = 0.2
    personal: bool = False
    clip: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    noise_multiplier: Annotated[float, Meta(ge=0, le=2000)] = 0.0
    count_noise: Annotated[float, Meta(ge=0, le=10_000)] = 0.0


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only measure, on the share of the samples that is held out. What else stands in an order to train is ignored."""

    round: Round = 0
    held_out: HeldOut = 0.2


def parse_training(config: Mapping[str, Any]) -> Training:
    """The order to train in `config`; error `training.order`."""
    return _convert(config, Training)


def parse_evaluation(config: Mapping[str, Any]) -> Evaluation:
    """The order to evaluate in `config`; error `training.order`."""
    beside = set(Training.__struct_fields__) - set(Evaluation.__struct_fields__)
    return _convert({name: value for name, value in config.items() if name not in beside}, Evaluation)


def check_weights(weights: Vector, total: int) -> None:
    """Return when the weights fit a model of `total` and are finite; error `training.order`."""
    if weights.shape != (total,):
        raise InvalidInput("training.order", f"The order has {weights.size} weights; the model has {total}.")
    if not np.isfinite(weights).all():
        raise InvalidInput("training.order", "The order holds a weight that is not a finite number.")


def _convert(config: Mapping[str, Any], kind: type[T]) -> T:
    wrong = [name for name, value in config.items() if isinstance(value, float) and not math.isfinite(value)]
    if wrong:
        raise InvalidInput("training.order", f"The order is not one: {wrong[0][:64]} is not a finite number.")
    try:
        return msgspec.convert(dict(config), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput("training.order", f"The order is not one: {error}."[:300]) from error
