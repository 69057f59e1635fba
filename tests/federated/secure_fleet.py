"""Devices of a run without sockets that protect their updates as the agent does, and may vanish in any stage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agent.training.orders import Order, parse_training
from agent.training.protection import Protection
from agent.training.secure import SecureSession
from hub.federated.tasks import Failure, Reply, Task
from shared.errors import SkerryError
from shared.federated.secagg.messages import Open, Roster, Unmask, decode_question
from tests.federated.fleet import SIZES, Fleet
from tests.federated.secure_kit import authority

__all__ = ["Guarded"]

_STAGES = {Open: "adverts", Roster: "shares", Unmask: "reveals"}


class Guarded:
    """The script of all devices of a fleet. silent: by node, the stage in which it says nothing.

    failing: the same, but it says that it failed. short: the node whose masked updates lack a word.
    """

    def __init__(
        self, silent: Mapping[int, str] | None = None, failing: Mapping[int, str] | None = None, short: int = 0
    ) -> None:
        self._silent = silent or {}
        self._failing = failing or {}
        self._short = short
        self._protections: dict[int, Protection] = {}
        self.orders: list[Task] = []

    def __call__(self, fleet: Fleet, task: Task) -> Reply | Failure | None:
        """What the device answers."""
        number, stage = task.node_id, self._stage(task)
        self.orders.append(task)
        if self._silent.get(number) == stage:
            return None
        if self._failing.get(number) == stage:
            return Failure(task_id="", node_id=number, reason="the sensor is wet")
        order = Order(kind=task.kind, weights=task.weights, config=task.config, expires_s=0.0, payload=task.payload)
        try:
            return self._answer(number, order)
        except SkerryError as error:
            return Failure(task_id="", node_id=number, reason=error.code)

    def _answer(self, number: int, order: Order) -> Reply:
        protection = self._protections.setdefault(number, self._protection(number))
        if order.kind == "query":
            answer = protection.answer(order)
            return Reply(task_id="", node_id=number, examples=1, metrics={}, update=answer.update)
        wanted = parse_training(order.config)
        protection.check(order, wanted)
        target = np.full(sum(SIZES), 1 + number / 10, np.float32)
        difference = np.asarray(0.5 * (target - order.weights), np.float32)
        answer, _ = protection.write(difference, 10 * number, {"loss": float(number)}, wanted, SIZES)
        update = answer.update[:-4] if number == self._short else answer.update
        return Reply(task_id="", node_id=number, examples=answer.examples, metrics={**answer.metrics}, update=update)

    def _protection(self, number: int) -> Protection:
        return Protection(SecureSession(f"d-{number}", *authority().device(f"d-{number}")))

    def _stage(self, task: Task) -> str:
        return "inputs" if task.kind == "train" else _STAGES.get(type(decode_question(task.payload)), "")
