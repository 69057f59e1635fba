"""After the last round: devices measure the new weights on their held-out share, beside those of the base version.

Rules: whoever may take part is asked, also those of whom no round asked; there is no quorum, because how many answers
are enough is for the hand-over to say; it ends when nobody is left who could answer, or at the deadline of a round. A
device says both numbers itself, about the same samples. It may lie, as in training; so its answer weighs no more than
`admission.max_examples`, and what is out of bounds does not count.
"""

from __future__ import annotations

from collections.abc import Mapping

from hub.federated.evaluation import DeviceEvaluation
from hub.federated.run import Run
from hub.federated.selection import OVER_SELECTION_PERCENT, select
from hub.federated.tasks import Engine, Failure, Task

__all__ = ["MEASURES", "Evaluating"]

MEASURES = frozenset({"held_out_loss", "held_out_accuracy", "base_loss", "base_accuracy"})
_MAX_LOSS = 1e6


class Evaluating:
    """The evaluation of one run. `bytes_down`: of the weights that were given out."""

    def __init__(self, run: Run, engine: Engine) -> None:
        self._run = run
        self._engine = engine
        self._out: dict[str, str] = {}
        self._given: set[str] = set()
        self._lost: set[str] = set()
        self._found: dict[str, DeviceEvaluation] = {}
        self.asked: list[str] = []
        self.bytes_down = 0

    def evaluate(self) -> list[DeviceEvaluation]:
        """What the devices measured, by name; a cancelled run's is not whole."""
        run = self._run
        self.asked = self._chosen()
        since = run.around.monotonic()
        if self.asked:
            run.around.ask(run.round_no + 1, self.asked)
        while not run.cancelled:
            left = run.definition.rounds.deadline_s - (run.around.monotonic() - since)
            waiting = self._waiting(since)
            if left <= 0 or not waiting:
                break
            self._give([d for d in run.exchange.present(waiting) if d not in self._given], left)
            self._take()
            if self._waiting(since):
                run.around.pause()
        self._engine.give_up(set(self._out))
        return [self._found[d] for d in sorted(self._found) if run.roster.node(d) is not None]

    def _chosen(self) -> list[str]:
        run = self._run
        declined, wanted = run.declined(), run.definition.evaluation.devices
        free = [c for c in run.roster.candidates() if c.device_id not in declined]
        goal = max(1, wanted * 100 // OVER_SELECTION_PERCENT)
        return select(free, goal, run.seed(0), run.definition.training.min_samples)[:wanted]

    def _waiting(self, since: float) -> list[str]:
        run = self._run
        over = self._found.keys() | self._lost | (run.declined(since) - self._given)
        return [d for d in self.asked if d not in over and run.roster.node(d) is not None]

    def _give(self, device_ids: list[str], ttl_s: float) -> None:
        run = self._run
        nodes = [(d, node) for d in device_ids if (node := run.roster.node(d)) is not None]
        config: dict[str, int | float | str] = {
            "round": run.round_no + 1,
            "held_out": run.definition.training.held_out,
        }
        tasks = [Task(node_id=n, weights=run.weights, config=config, ttl_s=ttl_s, kind="evaluate") for _, n in nodes]
        for (device_id, _), task_id in zip(nodes, self._engine.push(tasks) if tasks else [], strict=True):
            if task_id:
                self._out[task_id] = device_id
                self._given.add(device_id)
                self.bytes_down += run.weights.nbytes

    def _take(self) -> None:
        for outcome in self._engine.pull():
            device_id = self._out.pop(outcome.task_id, None)
            if device_id is None:
                continue
            found = None
            if not isinstance(outcome, Failure):
                found = _measured(
                    device_id, outcome.examples, outcome.metrics, self._run.definition.admission.max_examples
                )
            if found is None:
                self._lost.add(device_id)
            else:
                self._found[device_id] = found


def _measured(
    device_id: str, examples: object, metrics: Mapping[str, object], max_examples: int
) -> DeviceEvaluation | None:
    """What a device says it measured; None when that cannot be."""
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1 or set(metrics) != MEASURES:
        return None
    values: dict[str, float] = {}
    for name, value in metrics.items():
        most = 1.0 if name.endswith("accuracy") else _MAX_LOSS
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return None
        values[name] = float(value)
    return DeviceEvaluation(
        device_id=device_id,
        examples=min(examples, max_examples),
        accuracy=values["held_out_accuracy"],
        loss=values["held_out_loss"],
        base_accuracy=values["base_accuracy"],
        base_loss=values["base_loss"],
    )
