"""The same run without processes, sockets and Flower's messages: rounds, admission, strategies, training.

It gives the weights that the whole path gives (each answer is encoded and admitted all the same) in a hundredth of the
time. Only for trying settings out: what is reported comes from `tests.bench.federated.stage`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent.training.orders import Order
from hub.federated.checkpoint import Checkpoint
from hub.federated.report import RoundReport
from hub.federated.run import Run, definition_digest
from hub.federated.synchronous import run_rounds
from hub.federated.tasks import Failure, Reply, Task
from hub.federated.worker import make_step
from tests.bench.federated.device import Device
from tests.bench.federated.setting import Ran, Setting

__all__ = ["run_local"]


class _Around:
    """Engine and surroundings; time stands still."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices
        self._ready: list[Reply | Failure] = []
        self._count = 0
        self.reports: list[RoundReport] = []
        self.kept: list[Checkpoint] = []

    def nodes(self) -> set[int]:
        return set(range(len(self._devices)))

    def push(self, tasks: Sequence[Task]) -> list[str]:
        ids = []
        for task in tasks:
            self._count += 1
            ids.append(f"t-{self._count}")
            order = Order(kind=task.kind, weights=task.weights, config=task.config, expires_s=0.0)
            answer = self._devices[task.node_id].work(order)
            reply = Reply(
                task_id=ids[-1], node_id=task.node_id, examples=answer.examples, metrics=dict(answer.metrics),
                update=answer.update,
            )  # fmt: skip
            self._ready.append(reply)
        return ids

    def pull(self) -> list[Reply | Failure]:
        ready, self._ready = self._ready, []
        return ready

    def give_up(self, tasks: Collection[str] | None = None) -> list[Failure]:
        return []

    def monotonic(self) -> float:
        return 0.0

    def pause(self) -> None:
        pass

    def ask(self, round_no: int, device_ids: Sequence[str]) -> None:
        pass

    def complete(self, report: RoundReport, checkpoint: Checkpoint) -> None:
        self.reports.append(report)
        self.kept.append(checkpoint)

    def reserved(self, checkpoint: Checkpoint) -> None:
        pass

    def abandoned(self, report: RoundReport) -> None:
        self.reports.append(report)


def run_local(setting: Setting) -> Ran:
    """The run."""
    with setting.prepared() as ready:
        devices = [
            Device(share.device_id, ready.bundle, ready.samples(share.device_id), ready.folder, share.behaviour)
            for share in setting.shares
        ]
        around = _Around(devices)
        first = Checkpoint(
            run_id="f-000000000001",
            definition=definition_digest(setting.definition),
            seed=setting.definition.seed,
            round_no=0,
            weights=setting.first,
        )
        run = Run(setting.definition, setting.sizes, first, around, make_step(setting.definition), around)
        for number, share in enumerate(setting.shares):
            run.roster.enrol(share.device_id, number, samples=len(share.y))
        end = run_rounds(run)
        return Ran(end=str(end), weights=[c.weights for c in around.kept], reports=around.reports, seconds=0.0)
