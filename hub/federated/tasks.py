"""What a round says to devices and hears from them, whatever carries it. Pure values and the seam of the engine.

`hub.federated.flower.grid.Grid` is the engine that ships; nothing but `hub.federated.flower` knows Flower.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine", "Failure", "Outcome", "Reply", "Task"]

Vector = NDArray[np.float32]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Train on `weights` (or evaluate them) by `config`; after `ttl_s` seconds the node no longer gets it.

    kind `query`: a question in `payload`, without weights. payload: beside weights, what secure aggregation needs.
    """

    node_id: int
    weights: Vector
    config: dict[str, int | float | str]
    ttl_s: float
    kind: str = "train"
    payload: bytes = b""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a node answered, unchecked. `update`: encoded difference, or `weights`: all weights of a stock node."""

    task_id: str
    node_id: int
    examples: object
    metrics: dict[str, object]
    update: bytes | None = None
    weights: NDArray[np.generic] | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A task without a usable reply: the node was lost, too late, failed, or answered with nonsense."""

    task_id: str
    node_id: int
    reason: str


Outcome = Reply | Failure


class Engine(Protocol):
    """Gives tasks to connected nodes and collects what comes back. One thread uses it."""

    def nodes(self) -> set[int]:
        """The nodes that are connected now."""
        ...

    def push(self, tasks: Sequence[Task]) -> list[str]:
        """Give tasks to their nodes; their ids, in order ("" for one that was not taken)."""
        ...

    def pull(self) -> list[Reply | Failure]:
        """What has come since the last call. Never waits."""
        ...

    def give_up(self, tasks: Collection[str] | None = None) -> list[Failure]:
        """Forget these tasks (all that are out unless said): no reply to them will be taken any more."""
        ...
