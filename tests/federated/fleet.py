"""A fleet for runs without sockets: an engine of scripted devices, and a time that only passes when the run waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hub.federated.continuous import run_buffered
from hub.federated.definition import RunDefinition
from hub.federated.flower.strategies import Aggregator
from hub.federated.mechanism import Mechanism
from hub.federated.report import RoundReport
from hub.federated.run import Run, RunEnd, definition_digest
from hub.federated.synchronous import run_rounds
from hub.federated.tasks import Failure, Reply, Task
from shared.federated.codec import Scheme, encode

Vector = NDArray[np.float32]
SIZES = (4, 2)
Script = Callable[["Fleet", Task], Reply | Failure | None]


class Killed(BaseException):
    """The process ended here."""


def trained(fleet: Fleet, task: Task, examples: object = 10, factor: float = 1.0) -> Reply:
    """What an honest device answers: it goes half of the way to what its number and the weights say."""
    number = task.node_id
    difference = factor * 0.5 * (np.full(6, 1 + number / 10, np.float32) - task.weights)
    update = encode(difference.astype(np.float32), SIZES, Scheme.FLOAT32)[0]
    return Reply(task_id="", node_id=number, examples=examples, metrics={"loss": float(number)}, update=update)


class Fleet:
    """Engine and surroundings in one. scripts: by node; who has none is honest. after_s: when its answer comes."""

    def __init__(self, scripts: dict[int, Script] | None = None, after_s: dict[int, float] | None = None) -> None:
        self.scripts = scripts or {}
        self.after_s = after_s or {}
        self.now = 0.0
        self.online: set[int] = set()
        self.out: dict[str, tuple[float, Reply | Failure | None]] = {}
        self.given: list[Task] = []
        self.reports: list[RoundReport] = []
        self.abandons: list[RoundReport] = []
        self.kept: list[bytes] = []
        self.asks: list[tuple[int, list[str]]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.tasks = 0

    def nodes(self) -> set[int]:
        return set(self.online)

    def push(self, tasks: Sequence[Task]) -> list[str]:
        ids = []
        for task in tasks:
            self.tasks += 1
            task_id = f"t-{self.tasks}"
            self.given.append(task)
            outcome = self.scripts.get(task.node_id, trained)(self, task)
            if outcome is not None:
                outcome = type(outcome)(**{**_fields(outcome), "task_id": task_id})
            self.out[task_id] = (self.now + self.after_s.get(task.node_id, 1.0), outcome)
            ids.append(task_id)
        return ids

    def pull(self) -> list[Reply | Failure]:
        ready = [t for t, (at, outcome) in self.out.items() if at <= self.now and outcome is not None]
        return [outcome for t in ready if (outcome := self.out.pop(t)[1]) is not None]

    def give_up(self, tasks: Collection[str] | None = None) -> list[Failure]:
        for task_id in list(self.out) if tasks is None else list(tasks):
            self.out.pop(task_id, None)
        return []

    def monotonic(self) -> float:
        return self.now

    def pause(self) -> None:
        self.now += 0.5
        self.meanwhile()

    def ask(self, round_no: int, device_ids: Sequence[str]) -> None:
        self.asks.append((round_no, list(device_ids)))

    def complete(self, report: RoundReport, checkpoint: Checkpoint) -> None:
        self.reports.append(report)
        self.kept.append(write_checkpoint(checkpoint))

    def reserved(self, checkpoint: Checkpoint) -> None:
        self.kept.append(write_checkpoint(checkpoint))

    def abandoned(self, report: RoundReport) -> None:
        self.abandons.append(report)


def begin(definition: RunDefinition, seed: int = 1) -> Checkpoint:
    """The checkpoint with which a run begins."""
    return Checkpoint(
        run_id="f-1", definition=definition_digest(definition), seed=seed, round_no=0, weights=np.zeros(6, np.float32)
    )


def make_run(
    fleet: Fleet,
    definition: RunDefinition,
    devices: int,
    kept: bytes | None = None,
    offline: Collection[int] = (),
    authority: bytes = b"",
    seed_bytes: bytes = b"",
) -> Run:
    """A run with devices d-1, d-2, … on nodes 1, 2, …; seed_bytes: of its noise, in place of secret ones."""
    start = begin(definition) if kept is None else read_checkpoint(kept)
    strategy = Aggregator(definition.strategy.name, definition.strategy.parameters)
    run = Run(definition, SIZES, start, fleet, strategy, fleet, authority)
    if seed_bytes:
        run.mechanism = run.exchange.mechanism = Mechanism(definition, start.privacy, lambda: seed_bytes)
    for number in range(1, devices + 1):
        run.roster.enrol(f"d-{number}", number, samples=100)
    fleet.online |= set(range(1, devices + 1)) - set(offline)
    return run


def go(run: Run) -> RunEnd:
    """The run to its end."""
    return run_buffered(run) if run.definition.rounds.mode == "buffered" else run_rounds(run)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}
