"""Predictions inside an application's own process, from the version that the agent on this machine has made active.

The bundle is loaded here, so a prediction costs no request; a new active version is noticed within a second and
swapped in. The agent's own counters do not see these predictions.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from agent.inference.host import ModelHost
from agent.inference.local_api.tensors import from_json
from agent.inference.statistics import Statistics
from agent.ota.slots import Slots
from agent.paths import AgentPaths
from shared.errors import NotFound, SkerryError
from shared.preprocess.kernels import Array

__all__ = ["Predictor"]

_LOOK_S = 1.0
_TRIES = 3


class Predictor:
    """`Predictor("/var/lib/skerry", "digits").predict(images)`; usable from several threads.

    Errors: `model.not_installed` when the agent has no active version, else as `LoadedModel.load` and `.predict`.
    """

    def __init__(self, state: str | Path, model: str, *, threads: int = 1) -> None:
        self._slots = Slots(AgentPaths(Path(state)).model(model))
        self._model = model
        self._host = ModelHost(threads)
        self._looked_s = time.monotonic()
        self._slot = self._follow(None)

    def predict(self, x: npt.ArrayLike) -> Array:
        """[n, *input.shape] to [n, *output.shape] float32; lists are converted where that is exact, arrays are not."""
        now = time.monotonic()
        if now - self._looked_s > _LOOK_S:
            self._looked_s = now
            self.refresh()
        return self._host.predict(self._model, x if isinstance(x, np.ndarray) else self._converted(x))

    def refresh(self) -> None:
        """Follow the agent to its active version now; keeps the present one if there is none to go to."""
        self._slot = self._follow(self._slot)

    @property
    def version(self) -> int:
        """The version that answers."""
        return self._host.current(self._model).manifest.version

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes, if the bundle has them."""
        return self._host.current(self._model).labels

    def statistics(self) -> Statistics:
        """Requests, errors and latencies since the version became active here."""
        return self._host.served(self._model)

    def close(self) -> None:
        """Free the memory."""
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _converted(self, x: npt.ArrayLike) -> Array:
        wanted = self._host.current(self._model).manifest.input
        return from_json(x, np.dtype(wanted.dtype), None, wanted.name)

    def _follow(self, present: str | None) -> str | None:
        for attempt in range(_TRIES):
            slot = self._slots.active()
            if slot is None and present is None:
                raise NotFound(
                    "model.not_installed",
                    f"The agent has no active version of {self._model}.",
                    hint="Deploy one to this device, or look at `skerry-agent status`.",
                )
            if slot is None or slot == present:
                return present
            try:
                self._host.swap(self._model, self._host.load(self._model, self._slots.directory(slot)))
                return slot
            except SkerryError:
                if attempt == _TRIES - 1 and present is None:
                    raise  # otherwise the pointer may have moved on while the slot was read: look again
        return present
