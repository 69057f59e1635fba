"""The worker that ships, which kills itself in the middle of aggregating one round, once: `… MARKER ROUND`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hub.federated.admission import Admitted
from hub.federated.definition import RunDefinition
from hub.federated.surroundings import Step, Vector
from hub.federated.worker import main, make_step


class _Dying:
    def __init__(self, step: Step, marker: Path, round_no: int) -> None:
        self._step = step
        self._marker = marker
        self._round_no = round_no

    def step(self, weights: Vector, updates: Sequence[Admitted], round_no: int) -> Vector:
        moved = self._step.step(weights, updates, round_no)
        if round_no == self._round_no and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return moved

    def memory(self) -> dict[str, Vector]:
        return self._step.memory()

    def restore(self, memory: dict[str, Vector]) -> None:
        self._step.restore(memory)


def _make(definition: RunDefinition) -> Step:
    return _Dying(make_step(definition), Path(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    raise SystemExit(main(_make))
