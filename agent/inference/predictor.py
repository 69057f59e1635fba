"""Predictions inside an application's own process, from the version that the agent on this machine has made active.

The bundle is loaded here, so a prediction costs no request; a new active version is noticed within a second and
swapped in. The agent's own figures of requests do not see these predictions, but drift does: what is counted here is
handed to the agent every minute and at the end.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from agent.drift.feedback import Label
from agent.drift.handover import Handover
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
        paths = AgentPaths(Path(state))
        self._slots = Slots(paths.model(model))
        self._model = model
        self._host = ModelHost(threads)
        self._handover = self._host.watcher = Handover(paths.socket)
        self._looked_s = time.monotonic()
        self._slot = self._follow(None)

    def predict(self, x: npt.ArrayLike, *, request_id: str = "") -> Array:
        """[n, *input.shape] to [n, *output.shape] float32; lists are converted where that is exact, arrays are not.

        With an id, the truth about these predictions can be told later (`feedback`).
        """
        now = time.monotonic()
        if now - self._looked_s > _LOOK_S:
            self._looked_s = now
            self.refresh()
            self._handover.send_if_due(now)
        given = x if isinstance(x, np.ndarray) else self._converted(x)
        y, handle = self._host.answer(self._model, given)
        if request_id and handle.monitor is not None:
            handle.monitor.remember(request_id, given, y)
        return y

    def feedback(
        self, request_id: str, *, labels: Sequence[Label] | None = None, correct: Sequence[bool] | None = None
    ) -> list[bool]:
        """The truth about each row of a request, as classes (number, label, None) or as right and wrong; which rows
        were right. Errors `feedback.unknown_request`, `feedback.repeated`, `feedback.label`, `feedback.rows`."""
        monitor = self._host.current(self._model).monitor
        if monitor is None:
            raise NotFound("feedback.unknown_request", "No request is remembered here.")
        return monitor.feedback(request_id, labels=labels, correct=correct)

    def count(self, name: str, value: float = 1.0, *, arm: str = "") -> None:
        """Add to a named counter of this model, through the agent; errors `agent.not_running`, `metrics.*`."""
        self._handover.push(self._model, name, "counter", value, arm)

    def gauge(self, name: str, value: float, *, arm: str = "") -> None:
        """A value of a named gauge of this model, through the agent; errors `agent.not_running`, `metrics.*`."""
        self._handover.push(self._model, name, "gauge", value, arm)

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
        """Hand over what was counted and free the memory."""
        self._handover.send()
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
