"""What a run needs of the process that it is in: the time, a pause, and somebody to ask devices and to keep its work.

The worker gives the real ones; a test gives its own time, so that a run of many hours takes a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hub.federated.admission import Admitted
from hub.federated.checkpoint import Checkpoint
from hub.federated.report import RoundReport

__all__ = ["Step", "Surroundings", "Vector"]

Vector = NDArray[np.float32]


class Surroundings(Protocol):
    """Around a run. All of it is called on the run's own thread."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def pause(self) -> None:
        """Wait a moment, and do meanwhile what the hub has said (enrol, remove, cancel)."""
        ...

    def ask(self, round_no: int, device_ids: Sequence[str]) -> None:
        """Offer the round to these devices."""
        ...

    def complete(self, report: RoundReport, checkpoint: Checkpoint) -> None:
        """A round is complete: keep the checkpoint, from which the run can go on."""
        ...

    def reserved(self, checkpoint: Checkpoint) -> None:
        """Privacy was paid for, the round is not complete: keep the checkpoint before the devices are told."""
        ...

    def abandoned(self, report: RoundReport) -> None:
        """A round did not count."""
        ...


class Step(Protocol):
    """How updates become weights; `hub.federated.flower.strategies.Aggregator` is the one that ships."""

    def step(self, weights: Vector, updates: Sequence[Admitted], round_no: int) -> Vector:
        """The weights after this round; error `federated.too_few`."""
        ...

    def memory(self) -> dict[str, Vector]:
        """What it remembers between rounds."""
        ...

    def restore(self, memory: dict[str, Vector]) -> None:
        """Put back what `memory` gave."""
        ...
