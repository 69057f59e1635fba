"""Whether a device's update may be aggregated. Pure: a reply and what was asked in, an admitted update or an error out.

One bad reply must neither end a run nor move the model: everything is checked before anything is averaged, a claimed
number of examples is capped, and the first fault of a reply is its reason. What a device says about itself is never
believed beyond these bounds; what remains possible within them is the affair of the robust strategies.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput
from shared.federated.codec import decode

__all__ = ["Admitted", "Demands", "admit"]

Vector = NDArray[np.float32]


class Demands(msgspec.Struct, frozen=True, kw_only=True):
    """What an update must keep to.

    sizes: elements of each tensor. max_norm: Euclidean norm of the difference. max_examples: more count as this many.
    metrics: the keys that a reply may hold, each finite.
    """

    sizes: tuple[int, ...]
    max_norm: float
    max_examples: int
    metrics: frozenset[str]
    tasks: frozenset[str]


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An update that may be aggregated. `examples` is at most `Demands.max_examples`."""

    device_id: str
    difference: Vector
    examples: int
    metrics: dict[str, float]


def admit(
    demands: Demands,
    device_id: str,
    task: str,
    update: bytes,
    examples: object,
    metrics: Mapping[str, object],
    answered: frozenset[str] = frozenset(),
) -> Admitted:
    """The update, checked; `answered` are the tasks of this round that have had their reply.

    Errors: `update.unasked`, `update.repeated`, `update.examples`, `update.metrics`, `update.malformed`,
    `update.shape`, `update.not_finite`, `update.norm`.
    """
    if task not in demands.tasks:
        raise _refused("unasked", "The reply answers a task that this round did not give.")
    if task in answered:
        raise _refused("repeated", "The task has had its reply.")
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise _refused("examples", "The reply must say on how many examples it was trained (a whole number from 1).")
    known = _metrics(demands, metrics)
    difference = decode(update, demands.sizes)
    norm = float(np.linalg.norm(difference.astype(np.float64)))
    if norm > demands.max_norm:
        raise _refused("norm", f"The update has the norm {norm:.4g}; at most {demands.max_norm:.4g} is accepted.")
    return Admitted(
        device_id=device_id, difference=difference, examples=min(examples, demands.max_examples), metrics=known
    )


def _metrics(demands: Demands, metrics: Mapping[str, object]) -> dict[str, float]:
    strange = sorted(str(key) for key in metrics if key not in demands.metrics)
    if strange:
        raise _refused("metrics", f"The reply holds metrics that nobody asked for: {', '.join(strange)}."[:300])
    known: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise _refused("metrics", f"The metric {key} is not a finite number.")
        known[key] = float(value)
    return known


def _refused(noun: str, message: str) -> InvalidInput:
    return InvalidInput(f"update.{noun}", message)
