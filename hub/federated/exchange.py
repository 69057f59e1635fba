"""Tasks out to devices and their answers in, admitted or refused, for both kinds of run.

A question of secure aggregation goes the same way; its answers, and masked updates, are handed on as they came.

Rules: whatever a device answers costs at most that device's answer; every outcome is counted in its standing; a task
lives as long as the deadline allows and no answer is taken after it; an answer of a device that was removed in the
meantime does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hub.federated.admission import Admitted, Demands, admit
from hub.federated.definition import RunDefinition
from hub.federated.mechanism import Mechanism
from hub.federated.standing import Roster
from hub.federated.tasks import Engine, Failure, Reply, Task
from shared.errors import InvalidInput
from shared.federated.codec import Scheme, encode

__all__ = ["Exchange", "Given", "Harvest"]

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Given:
    """A task that is out: whose it is, the weights it began with, the round or step they were of, and since when.

    sealed: the answer is not an update that can be read.
    """

    device_id: str
    weights: Vector
    round_no: int
    at: float
    sealed: bool = False


@dataclass(slots=True)
class Harvest:
    """What has come back. rejected: device and code. lost: took the task and failed. sealed: not to be read alone."""

    admitted: list[tuple[Given, Admitted]] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    sealed: dict[str, bytes] = field(default_factory=dict)


class Exchange:
    """The tasks of one run that are out."""

    def __init__(
        self,
        definition: RunDefinition,
        sizes: tuple[int, ...],
        engine: Engine,
        roster: Roster,
        mechanism: Mechanism,
    ) -> None:
        self._definition = definition
        self.mechanism = mechanism
        self._sizes = sizes
        self._engine = engine
        self._roster = roster
        self._out: dict[str, Given] = {}
        self.bytes_down = 0
        self.bytes_up = 0

    def busy(self) -> set[str]:
        """The devices whose task is out."""
        return {given.device_id for given in self._out.values()}

    def given_before(self, at: float) -> set[str]:
        """The devices whose task is out since then or longer."""
        return {given.device_id for given in self._out.values() if given.at <= at}

    def present(self, device_ids: Iterable[str]) -> list[str]:
        """Those of the devices that are connected now, sorted."""
        nodes = self._engine.nodes()
        return sorted(device_id for device_id in device_ids if self._roster.node(device_id) in nodes)

    def give(self, device_ids: Iterable[str], weights: Vector, round_no: int, ttl_s: float, now: float) -> list[str]:
        """Give each device its task; those that got it."""
        config = self._config(round_no) | self.mechanism.order()
        return self._push(dict.fromkeys(device_ids, b""), "train", config, Given("", weights, round_no, now), ttl_s)

    def give_sealed(
        self, payloads: Mapping[str, bytes], weights: Vector, round_no: int, ttl_s: float, now: float, least: int
    ) -> list[str]:
        """Give each device its task, whose answer is only good in a sum of `least` and more; those that got it."""
        config = self._config(round_no) | self.mechanism.order(least)
        return self._push(payloads, "train", config, Given("", weights, round_no, now, sealed=True), ttl_s)

    def ask(self, questions: Mapping[str, bytes], round_no: int, ttl_s: float, now: float) -> list[str]:
        """Put a question of secure aggregation to each device; those that got it."""
        given = Given("", np.zeros(0, np.float32), round_no, now, sealed=True)
        return self._push(questions, "query", {"round": round_no}, given, ttl_s)

    def _push(
        self,
        payloads: Mapping[str, bytes],
        kind: str,
        config: dict[str, int | float | str],
        given: Given,
        ttl_s: float,
    ) -> list[str]:
        taken = [(d, node) for d in payloads if (node := self._roster.node(d)) is not None]
        tasks = [
            Task(node_id=node, weights=given.weights, config=config, ttl_s=ttl_s, kind=kind, payload=payloads[d])
            for d, node in taken
        ]
        got = []
        for (device_id, _), task_id in zip(taken, self._engine.push(tasks) if tasks else [], strict=True):
            if task_id:
                self._out[task_id] = replace(given, device_id=device_id)
                size = given.weights.nbytes + len(payloads[device_id])
                self._roster.of(device_id).bytes_down += size
                self.bytes_down += size
                got.append(device_id)
        return got

    def collect(self) -> Harvest:
        """What has come back since the last call."""
        harvest = Harvest()
        for outcome in self._engine.pull():
            given = self._out.get(outcome.task_id)
            if given is None or self._roster.node(given.device_id) is None:
                self._out.pop(outcome.task_id, None)
                continue
            if isinstance(outcome, Failure):
                self.fail([given.device_id])
                harvest.lost.append(given.device_id)
            else:
                self._take(outcome, given, harvest)
            del self._out[outcome.task_id]
        return harvest

    def give_up(self, device_ids: Collection[str] | None = None) -> list[str]:
        """Take no answer any more from these devices (all whose task is out unless said); those, sorted."""
        late = {t: g.device_id for t, g in self._out.items() if device_ids is None or g.device_id in device_ids}
        if late:
            self._engine.give_up(set(late))
        for task_id in late:
            del self._out[task_id]
        return sorted(late.values())

    def fail(self, device_ids: Iterable[str]) -> None:
        """Count drop-outs."""
        for device_id in device_ids:
            self._roster.of(device_id).dropped += 1

    def refuse(self, device_id: str) -> None:
        """Count a refused answer."""
        standing = self._roster.of(device_id)
        standing.rejected += 1
        standing.refused += 1

    def accept(self, device_id: str) -> None:
        """Count an answer that went into the model."""
        standing = self._roster.of(device_id)
        standing.rejected = 0
        standing.answered += 1

    def _take(self, reply: Reply, given: Given, harvest: Harvest) -> None:
        if given.sealed:
            answer = reply.update or b""
            self._roster.of(given.device_id).bytes_up += len(answer)
            self.bytes_up += len(answer)
            harvest.sealed[given.device_id] = answer
            return
        try:
            update = self._update(reply, given.weights)
            self._roster.of(given.device_id).bytes_up += len(update)
            self.bytes_up += len(update)
            admitted = admit(
                self._demands(reply.task_id), given.device_id, reply.task_id, update, reply.examples, reply.metrics
            )
        except InvalidInput as error:
            self.refuse(given.device_id)
            harvest.rejected[given.device_id] = error.code
        else:
            harvest.admitted.append((given, admitted))

    def _update(self, reply: Reply, weights: Vector) -> bytes:
        """The update as devices write it; a stock node sends all weights instead of the difference."""
        if reply.update is not None:
            return reply.update
        if reply.weights is None or reply.weights.shape != weights.shape or reply.weights.dtype.kind != "f":
            raise InvalidInput("update.shape", "The reply holds no update that fits the weights of the model.")
        with np.errstate(over="ignore", invalid="ignore"):
            difference = reply.weights.astype(np.float32) - weights
        return encode(difference, self._sizes, Scheme.FLOAT32)[0]

    def _demands(self, task_id: str) -> Demands:
        bounds = self._definition.admission
        return Demands(
            sizes=self._sizes,
            max_norm=bounds.max_norm,
            max_examples=self.mechanism.max_examples,
            metrics=self.mechanism.metrics,
            tasks=frozenset({task_id}),
        )

    def _config(self, round_no: int) -> dict[str, int | float | str]:
        training = self._definition.training
        return {
            "round": round_no,
            "epochs": training.epochs,
            "learning_rate": training.learning_rate,
            "proximal_mu": training.proximal_mu,
            "scheme": str(training.scheme),
            "keep": training.keep,
            "held_out": training.held_out,
            **({"personal": True} if training.personal else {}),
        }
